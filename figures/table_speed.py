"""Time and memory, of one pass and of an optimisation: benchmarks/speed.csv to read."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

from figures.rendering import Table, arguments, digits, save
from texnet.process import program
from texnet.tables import read_table

LABELS = {
    "forward_instance": "StyleNet IN, one pass",
    "forward_batch": "StyleNet BN, one pass",
    "forward_noisy": "with noise, lambda = 0, one pass",
    "forward_diverse": "with noise, lambda > 0, one pass",
    "evaluation": "objective and gradient, one evaluation",
    "forward_paper": "the paper's StyleNet, one pass",
    "evaluation_paper": "VGG-19, objective and gradient",
}
LABELS |= {f"memory_{metric}": f"{label}, peak memory" for metric, label in LABELS.items()}
Medians = dict[str, dict[str, float]]


def medians(rows: list[dict[str, str]]) -> Medians:
    """The median over repetitions, by metric and by content."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        found[row["metric"]][row["content"]].append(float(row["value"]))
    return defaultdict(dict, {m: {c: median(v) for c, v in by.items()} for m, by in found.items()})


def by_size(found: Medians) -> Table:
    """A row for each metric, in ms or MiB; a column for each size."""
    shown = {metric: found[metric] for metric in LABELS if metric in found}
    sizes = sorted({c for by in shown.values() for c in by}, key=lambda c: int(c[:-2]))
    rows = []
    for metric, by in shown.items():
        unit, factor = ("MiB", 1) if metric.startswith("memory_") else ("ms", 1e3)
        cells = [digits(factor * by[size]) if size in by else "" for size in sizes]
        rows.append([f"{LABELS[metric]} ({unit})", *cells])
    headers = ("", *(size.replace("px", " px") for size in sizes))
    return Table(headers, rows, (0.4, *[0.5 / len(sizes) for _ in sizes]), "By size of the image")


def of_optimisation(found: Medians) -> Table:
    """A row for each held-out image: until the optimisation's objective equals the one pass's."""
    headers = ("content", "one pass (ms)", "evaluations", "optimisation (s)", "optimisation / pass",
               "evaluations until equal", "time until equal (s)", "until equal / pass")  # fmt: skip
    rows = []
    for content, sample in found["sample"].items():
        whole, calls = found["optimisation"][content], found["evaluations"][content]
        row = [content, digits(1e3 * sample), f"{calls:.0f}", digits(whole), digits(whole / sample)]
        if equal := found["optimisation_to_equal"].get(content):
            number = f"{found['evaluations_to_equal'][content]:.0f}"
            row += [number, digits(equal), digits(equal / sample)]
        else:
            row += ["never", "", ""]
        rows.append(row)
    return Table(headers, rows, (0.11,) * len(headers), "By optimisation, from noise")


def main() -> None:
    args = arguments(__doc__)
    found = medians(read_table(args.table))
    save("Time and memory", [by_size(found), of_optimisation(found)], args.out)


if __name__ == "__main__":
    program(main)
