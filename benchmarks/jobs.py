"""How the cores of a machine are best shared out among trainings: benchmarks/jobs.csv.

As many at once as there are cores, each with one thread, or fewer with more threads: images a
second of all together. And one training with three times the batch, which is the most that three
seeds in one process could gain, as if they had their generators in common, too.

    python -m benchmarks.jobs [--cores 8]
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tabulate import tabulate

from benchmarks.measure import ROOT, Case, Found, child, note, today
from texnet.tables import write_table

SEEDS = 3
REPETITIONS = {"train-embedded": 60, "train-stylenet": 3}
COLUMNS = (
    "workload", "network", "size", "batch", "cores", "jobs", "threads", "n", "median",
    "images_per_second", "peak_rss_mib",
)  # fmt: skip


class Sharing(NamedTuple):
    """Some processes at once, each of them a training."""

    case: Case
    jobs: int


def sharings(cores: int, tiny: bool = False) -> Iterator[Sharing]:
    """What is measured on so many cores: each way to share them out evenly."""
    shapes = {"train-embedded": (96, 2), "train-stylenet": (32, 2) if tiny else (256, 4)}
    for name, (size, batch) in shapes.items():
        for threads in (n for n in range(1, cores + 1) if cores % n == 0):
            case = Case(name, "StyleNet", size, batch, threads, "fp32")
            yield Sharing(case, cores // threads)
        if name == "train-embedded":
            yield Sharing(Case(name, "StyleNet", size, SEEDS * batch, 1, "fp32"), cores)


def measured(sharing: Sharing, tiny: bool) -> list[Found]:
    """What each of the processes says, whose repetitions begin together."""
    case, jobs = sharing
    repetitions = 1 if tiny else REPETITIONS[case.workload]
    task = {"case": dataclasses.asdict(case), "tiny": tiny, "repetitions": repetitions}
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        task["together"] = folder, jobs
        calls = [pool.submit(child, "work", task, str(case)) for _ in range(jobs)]
        return [call.result() for call in calls]


def row(sharing: Sharing, found: Sequence[Found], cores: int) -> tuple[object, ...]:
    """A row of jobs.csv."""
    case, jobs = sharing
    seconds = [each for answer in found for each in answer["seconds"]]
    middle = median(seconds)
    memory = max(answer["peak_rss_mib"] for answer in found)
    return (case.workload, case.network, case.size, case.batch, cores, jobs, case.threads,
            len(seconds), middle, jobs * case.batch / middle, memory)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--cores", type=int, default=mine, help="default: all")
    parser.add_argument("--tiny", action="store_true", help="one step of each, small ones")
    parser.add_argument("--out", type=Path, help="default benchmarks/; tiny: a temporary folder")
    args = parser.parse_args(arguments)
    if args.cores < 1:
        parser.error("--cores must be 1 or more")
    out = args.out or (Path(tempfile.mkdtemp()) if args.tiny else ROOT / "benchmarks")
    work = list(sharings(args.cores, args.tiny))
    rows = [row(each, measured(each, args.tiny), args.cores) for each in work]
    write_table(out / "jobs.csv", COLUMNS, rows)
    machine = child("limits", {"tiny": True}, "limits")["machine"]
    note(out / "machine.json", "jobs", machine | today())
    print(tabulate(rows, COLUMNS, tablefmt="github", floatfmt=".4g"))
    print(f"\n{out}: jobs.csv, machine.json")
    if args.tiny:
        print("Tiny: these numbers mean nothing.")


if __name__ == "__main__":
    main()
