"""Time and memory beside the plain path and the machine's limits: step.csv, growth.csv, limits.csv.

Every way of computing is a process of its own, whose memory and allocator are its own; those of a
workload take turns (A B C A B C), so that a machine that becomes slower does so for all. What they
compute is in benchmarks/work.py, the plain path in benchmarks/plain.py. Results join those of the
workloads that are not measured; a table is printed and benchmarks/step.png drawn.

    python benchmarks/measure.py [--only train-v1 ...] [--rounds 3] [--repetitions 3]
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

from tabulate import tabulate

# Nothing here imports PyTorch: Linux counts the memory of the process that starts another as the
# other's peak.
from texnet.artifacts import read_json, write_json
from texnet.tables import read_table, write_table

ROOT = Path(__file__).resolve().parents[1]
PYTHON = (sys.executable, "-m")
STEP = (
    "workload", "network", "size", "batch", "threads", "way", "n", "fastest", "median", "slowest",
    "ratio", "gflop", "gflops_per_second", "limit", "share_of_limit", "peak_rss_mib",
    "import_rss_mib", "loss",
)  # fmt: skip
SHOWN = (
    "workload", "size", "batch", "threads", "way", "n", "fastest", "median", "slowest", "ratio",
    "share_of_limit", "peak_rss_mib", "loss",
)  # fmt: skip
GROWTH = (
    "workload", "network", "size", "batch", "threads", "way", "n", "fastest", "median", "slowest",
    "fit", "constant_ms", "microseconds_per_pixel", "gflop", "limit", "floor",
)  # fmt: skip
LIMITS = ("limit", "threads", "value", "unit")
PLAIN = ("plain", "as neural-style-pt")
"""The ways that others are held against."""
OURS = ("fp32", "bf16")
PARTS = ("fp32, part 2", "bf16, part 2")
CONTIGUOUS = "fp32, contiguous"
"""With the generator's weights in PyTorch's usual layout (acceleration.channels_last: false)."""
DIRECT = "fp32, direct"
"""Without Winograd's algorithm (descriptor.winograd: false)."""
STRIPS = 1024
"""Side of an image from which on it is stylized by strips, too."""

Found = dict[str, Any]  # what a child prints
Row = Sequence[object]
Rates = Mapping[tuple[str, int], float]  # by limit and threads


@dataclass(frozen=True)
class Case:
    """What one process measures."""

    workload: str
    network: str
    size: int
    """Side of the images, in pixels."""
    batch: int
    threads: int
    way: str

    @property
    def limit(self) -> str:
        """The rate of the machine that bounds it."""
        return f"{'bf16' if self.way.startswith('bf16') else 'fp32'} convolution"

    def __str__(self) -> str:
        return f"{self.workload} ({self.size} px, batch {self.batch}), {self.way}"


@dataclass(frozen=True)
class Workload:
    """What is measured in turns."""

    network: str
    threads: int
    ways: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]
    """(side in pixels, batch)."""
    tiny: tuple[tuple[int, int], ...]
    """The same in tests."""
    counted: str = "plain"
    """The way whose operations are counted, for all."""


WORKLOADS = {
    "train-stylenet": Workload(
        "StyleNet", 2, ("plain", *OURS, PARTS[0], DIRECT, CONTIGUOUS), ((256, 4),), ((32, 2),)
    ),
    "train-v1": Workload("TextureNetV1", 2, ("plain", *OURS, *PARTS), ((256, 16),), ((64, 6),)),
    "train-v2": Workload("TextureNetV2", 2, OURS, ((256, 16),), ((32, 2),), counted=DIRECT),
    "train-embedded": Workload(
        "StyleNet", 1, ("plain", *OURS, CONTIGUOUS), ((96, 2),), ((96, 2),)
    ),
    "optimise": Workload(
        "VGG-19", 2, (PLAIN[1], *OURS, DIRECT), ((256, 1), (512, 1)), ((32, 1),), counted=PLAIN[1]
    ),
    "stylize": Workload(
        "StyleNet", 1, ("plain", *OURS, DIRECT, "strips"), tuple((256 << i, 1) for i in range(4)),
        ((64, 1),),
    ),
    "growth": Workload(  # by side, and by batch
        "StyleNet", 2, OURS,
        ((64, 4), (128, 1), (128, 2), (128, 4), (128, 8), (192, 4), (256, 4)), ((32, 1), (48, 2)),
    ),
}  # fmt: skip


def cases(name: str, tiny: bool) -> list[Case]:
    """What is measured of a workload, in the order in which it takes turns."""
    work = WORKLOADS[name]
    threads = 1 if tiny else work.threads
    return [
        Case(name, work.network, size, batch, threads, way)
        for size, batch in (work.tiny if tiny else work.shapes)
        for way in work.ways
        if tiny or way != "strips" or size >= STRIPS
    ]


def child(module: str, given: Mapping[str, object], title: str) -> Found:
    """What a process of its own says to a task; ends with one line where it fails."""
    call = [*PYTHON, f"benchmarks.{module}", json.dumps(given)]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        said = [line for line in lines if re.match(r"[\w.]+: ", line)] or lines  # the exception
        raise SystemExit(f"{title}: ended with code {done.returncode}: {said[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def in_turns(
    work: Iterable[Case], rounds: int, repetitions: int, tiny: bool
) -> dict[Case, list[Found]]:
    """What each case measured in each round."""
    found: dict[Case, list[Found]] = {case: [] for case in work}
    for number in range(rounds):
        for case, answers in found.items():
            task = {"case": dataclasses.asdict(case), "repetitions": repetitions, "tiny": tiny}
            answers.append(child("work", task, str(case)))
            middle = median(answers[-1]["seconds"])
            print(f"round {number + 1}: {case}: {middle:.4g} s", file=sys.stderr, flush=True)
    return found


def operations(name: str, tiny: bool) -> dict[tuple[int, int], float]:
    """Operations of one unit of a workload, in 1e9, by size and batch: as one writes it first."""
    made = {}
    for case in cases(name, tiny):
        if (case.size, case.batch) not in made:
            case = dataclasses.replace(case, way=WORKLOADS[name].counted)
            task = {"case": dataclasses.asdict(case), "repetitions": 0, "tiny": tiny}
            found = child("work", task, f"operations of {case}")
            made[case.size, case.batch] = found["gflop"]
    return made


def spread(answers: Iterable[Found]) -> tuple[int, float, float, float]:
    """Number, least, median and largest of all seconds."""
    seconds = [each for found in answers for each in found["seconds"]]
    return len(seconds), min(seconds), median(seconds), max(seconds)


def step_rows(
    found: Mapping[Case, list[Found]], gflop: Mapping[tuple[int, int], float], rates: Rates
) -> list[Row]:
    """Rows of step.csv."""
    plain = {(c.size, c.batch): spread(a)[2] for c, a in found.items() if c.way in PLAIN}
    rows: list[Row] = []
    for case, answers in found.items():
        times, shape = spread(answers), (case.size, case.batch)
        ratio = plain[shape] / times[2] if shape in plain else None
        speed = gflop[shape] / times[2]
        share = speed / rates[case.limit, case.threads]
        peak = max(answer["peak_rss_mib"] for answer in answers)
        first = answers[0]["import_rss_mib"], answers[0]["loss"]
        name = dataclasses.astuple(case)
        rows.append((*name, *times, ratio, gflop[shape], speed, case.limit, share, peak, *first))
    return rows


def growth_rows(
    found: Mapping[Case, list[Found]], gflop: Mapping[tuple[int, int], float], rates: Rates
) -> list[Row]:
    """Rows of growth.csv: with seconds = a + b pixels, of the whole batch, by least squares."""
    fits = {}
    for way in {case.way for case in found}:
        points = [(c.size**2 * c.batch, spread(a)[2]) for c, a in found.items() if c.way == way]
        fits[way] = linear_regression(*zip(*points, strict=True))
    rows: list[Row] = []
    for case, answers in found.items():
        slope, constant = fits[case.way]
        fit = constant + slope * case.size**2 * case.batch
        counted = gflop[case.size, case.batch]
        floor = counted / rates[case.limit, case.threads]
        law = fit, 1e3 * constant, 1e6 * slope
        name = dataclasses.astuple(case)
        rows.append((*name, *spread(answers), *law, counted, case.limit, floor))
    return rows


def merge(path: Path, columns: Sequence[str], name: str, rows: Iterable[Row]) -> None:
    """Write rows of a workload in the place of those that the table has of it."""
    kept = read_table(path) if path.exists() else []
    others = [[row.get(c, "") for c in columns] for row in kept if row["workload"] != name]
    order = [*WORKLOADS, *(str(row[0]) for row in others)]
    write_table(path, columns, sorted([*others, *rows], key=lambda row: order.index(str(row[0]))))


def note(path: Path, name: str, facts: Found) -> None:
    """Say of a workload when, how often and on what it was measured."""
    known = (read_json(path) if path.exists() else {}) | {name: facts}
    names = [each for each in ("limits", *WORKLOADS, "jobs") if each in known]
    write_json(path, {each: known[each] for each in names})


def today() -> Found:
    """The date, and the code that is measured."""
    call = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    said = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"date": date, "code": said.stdout.strip() or "unknown"}


def show(out: Path) -> None:
    """Print what the tables hold."""

    def table(path: Path, columns: Sequence[str]) -> str:
        rows = [[row[c] for c in columns] for row in read_table(path)]
        return tabulate(rows, columns, tablefmt="github", floatfmt=".4g")

    print(table(out / "limits.csv", LIMITS))
    if (out / "step.csv").exists():
        print("\nSeconds of a step, an evaluation, an image:\n")
        print(table(out / "step.csv", SHOWN))
    if (out / "growth.csv").exists():
        laws = {row["way"]: row for row in read_table(out / "growth.csv")}
        print("\nOne step of StyleNet over pixels of the whole batch:\n")
        for way, row in laws.items():
            a, b = float(row["constant_ms"]), float(row["microseconds_per_pixel"])
            print(f"{way}: {a:.4g} ms + {b:.4g} microseconds a pixel")


def options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, help="default 3")
    parser.add_argument("--repetitions", type=int, help="of a round, after two; default 3")
    parser.add_argument("--tiny", action="store_true", help="one round at the smallest sizes")
    parser.add_argument("--out", type=Path, help="default benchmarks/; tiny: a temporary folder")
    args = parser.parse_args(arguments)
    for name in ("rounds", "repetitions"):
        if getattr(args, name) is None:
            setattr(args, name, 1 if args.tiny else 3)
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be 1 or more")
    if args.out is None:  # numbers of tests do not join those of measurements
        args.out = Path(tempfile.mkdtemp()) if args.tiny else ROOT / "benchmarks"
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    args = options(arguments)
    out = args.out.resolve()
    limits = child("limits", {"tiny": args.tiny}, "limits")
    rates = {(name, threads): value for name, threads, value, _ in limits["rows"]}
    write_table(out / "limits.csv", LIMITS, limits["rows"])
    facts = limits["machine"] | today()
    note(out / "machine.json", "limits", facts | {"repetitions": limits["repetitions"]})
    facts |= {"rounds": args.rounds, "repetitions": args.repetitions}
    for name in (each for each in WORKLOADS if each in args.only):
        gflop = operations(name, args.tiny)
        found = in_turns(cases(name, args.tiny), args.rounds, args.repetitions, args.tiny)
        if name == "growth":
            merge(out / "growth.csv", GROWTH, name, growth_rows(found, gflop, rates))
        else:
            merge(out / "step.csv", STEP, name, step_rows(found, gflop, rates))
        note(out / "machine.json", name, facts)
    show(out)
    child("plot", {"folder": str(out)}, "plot")
    names = [
        f"{name}.csv" for name in ("step", "growth", "limits") if (out / f"{name}.csv").exists()
    ]
    print(f"\n{out}: {', '.join(names)}, machine.json, step.png, step.pdf")
    if args.tiny:
        print("Tiny: these numbers mean nothing.")


if __name__ == "__main__":
    main()
