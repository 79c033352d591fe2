"""How the cores of a machine are best shared out among trainings: benchmarks/jobs.csv.

As many at once as there are cores, each with one thread, or fewer with more threads: images a
second of all together. And one training with three times the batch, which is the most that three
seeds in one process could gain, as if they had their generators in common, too.

    python -m benchmarks.jobs [--cores 8]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tabulate import tabulate

from benchmarks.measure import Case, Found, child
from texnet.tables import write_table

ROOT = Path(__file__).resolve().parents[1]
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


def sharings(cores: int) -> Iterator[Sharing]:
    """What is measured on so many cores."""
    for name, size, batch in (("train-embedded", 96, 2), ("train-stylenet", 256, 4)):
        threads = 1
        while threads <= cores:
            case = Case(name, "StyleNet", size, batch, threads, "fp32")
            yield Sharing(case, cores // threads)
            threads *= 2
        if name == "train-embedded":
            yield Sharing(Case(name, "StyleNet", size, SEEDS * batch, 1, "fp32"), cores)


def measured(sharing: Sharing, tiny: bool) -> list[Found]:
    """What each of the processes says."""
    case, repetitions = sharing.case, 1 if tiny else REPETITIONS[sharing.case.workload]
    task = {"case": vars(case), "repetitions": repetitions, "tiny": tiny}
    with ThreadPoolExecutor(sharing.jobs) as pool:
        calls = [pool.submit(child, "work", task, str(case)) for _ in range(sharing.jobs)]
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
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="default: all")
    parser.add_argument("--tiny", action="store_true", help="one step of each")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "jobs.csv")
    args = parser.parse_args(arguments)
    rows = []
    for each in sharings(args.cores):
        rows.append(row(each, measured(each, args.tiny), args.cores))
        write_table(args.out, COLUMNS, rows)
    print(tabulate(rows, COLUMNS, tablefmt="github", floatfmt=".4g"))


if __name__ == "__main__":
    main()
