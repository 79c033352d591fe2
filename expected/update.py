"""Keep the results of a finished run here; those of the embedded scale are shown on the pages.

A table stands between two markers, in README.md or in a page of docs/.

Run by `make expected` after `make`, or after a run of another scale: no number is copied by hand.
After `make bench-steps`, `python expected/update.py --bench` shows what it measured, and no more.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch

from texnet.artifacts import read_json, read_tensors, write_json, write_text
from texnet.config import LITE_WEIGHTS
from texnet.tables import read_table

ROOT = Path(__file__).resolve().parents[1]
KEPT = (
    "results/claims.csv",
    "results/metrics.csv",
    "benchmarks/speed.csv",
    "figures/table_claims.md",
    "figures/table_speed.md",
    *(f"figures/fig{number}.png" for number in range(1, 8)),
)
TOLERANCE = 0.1
"""What `texnet verify` widens the expected intervals by, on both sides."""
TIMED = ["C19", "C21"]
"""Claims about time on the machine: it compares their verdicts alone."""
# For weights: published: those of figure 3, and one of each to play with.
RELEASED = (
    *(f"stylenet_{norm}_seed{seed}" for norm in ("in", "bn") for seed in range(3)),
    "stylenet_diverse_seed0",
    *(f"v1_{exemplar}_seed0" for exemplar in ("berries", "pebbles", "stained_glass")),
)
NEVER = ("tiny", "one_iteration")
PLAIN = ("plain", "as neural-style-pt")
"""The ways of benchmarks/measure.py that others are held against."""
BENCHED = {
    "train-stylenet": "step of StyleNet",
    "train-v1": "step of TextureNetV1",
    "train-v2": "step of TextureNetV2",
    "train-embedded": "step of the embedded scale",
    "optimise": "evaluation in an optimisation",
    "stylize": "pass of StyleNet",
}


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def commit() -> str:
    """The commit of the code, with a mark where what makes the results was changed since."""

    def git(*arguments: str) -> str:
        call = ["git", *arguments]
        return subprocess.run(call, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    head = git("rev-parse", "HEAD").strip()
    pages = (":!expected", ":!docs", ":!README.md")
    changes = git("status", "--porcelain", "--", ".", *pages)
    return f"{head}+changes" if changes else head


def spent() -> float:
    """Seconds of all trainings and optimisations of these results, one after the other."""
    runs = {row["run"] for row in read_table(ROOT / "results" / "metrics.csv")}
    total = 0.0
    for path in (ROOT / "benchmarks").glob("*_seed*.tsv"):
        name = path.stem.partition("_")[2].rpartition("_seed")[0]
        if any(name == run or name.startswith(f"{run}_") for run in runs):
            total += float(path.read_text().splitlines()[1].split("\t")[0])
    return round(total)


def between(text: str, name: str, content: str) -> str:
    """``text`` with what stands between the markers of ``name`` replaced."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    return re.sub(pattern, lambda m: m[1] + content + m[2], text, flags=re.DOTALL)


def short(cell: str) -> str:
    """A number with three digits, large ones without a fraction."""
    value = float(cell)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def precision_table() -> str:
    """What rounding changes (benchmarks/precision.py), as Markdown."""
    lines = [
        "| training | in | loss | held-out objective | objective of the same images |",
        "|---|---|---|---|---|",
    ]
    for row in read_table(ROOT / "benchmarks" / "precision.csv"):
        ratios = ("loss_over_fp32", "heldout_over_fp32", "same_images_over_fp32")
        cells = " | ".join(f"{float(row[name]):.4f}" for name in ratios)
        lines.append(f"| {row['run']} | {row['way']} | {cells} |")
    return "\n".join(lines) + "\n"


def bits_table() -> str:
    """What hangs on the machine (benchmarks/bits.py), as Markdown."""
    lines = [
        "| the same training | same weights, to the bit | weights differ by | first loss |"
        " last tenth's loss | held-out objective |",
        "|---|---|---|---|---|---|",
    ]
    for row in read_table(ROOT / "benchmarks" / "bits.csv"):
        ratios = " | ".join(f"{float(row[name]):.6g}" for name in ("first_loss", "loss", "heldout"))
        apart = f"{float(row['weights_differ_by']):.2g}"
        lines.append(f"| {row['way']} | {row['same_bytes']} | {apart} | {ratios} |")
    return "\n".join(lines) + "\n"


def bench_table() -> str | None:
    """What steps cost (benchmarks/measure.py), as Markdown; None before anything is measured."""
    folder = ROOT / "benchmarks"
    if not all((folder / f"{name}.csv").exists() for name in ("step", "limits")):
        return None
    lines = [
        "| what | way | n | fastest / median / slowest | times as fast as plain |"
        " share of the machine's limit | peak memory (MiB) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in read_table(folder / "step.csv"):
        times = [float(row[name]) for name in ("fastest", "median", "slowest")]
        unit, factor = ("s", 1) if times[1] >= 1 else ("ms", 1000)
        times = times[:1] if row["n"] == "1" else times
        spread = f"{' / '.join(short(str(factor * each)) for each in times)} {unit}"
        ratio = short(row["ratio"]) if row["ratio"] else ""
        share = f"{100 * float(row['share_of_limit']):.0f} %"
        memory = f"{float(row['peak_rss_mib']):.0f}"
        what = measured_thing(row)
        cells = (what, row["way"], row["n"], spread, ratio, share, memory)
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| this machine's limit | 1 thread | 2 threads |", "|---|---|---|"]
    limits: dict[str, list[str]] = {}
    for row in read_table(folder / "limits.csv"):
        name = f"{row['limit']} ({row['unit']})"
        limits[name] = [*limits.get(name, []), short(row["value"])]
    lines += [f"| {name} | {' | '.join(values)} |" for name, values in limits.items()]
    if (folder / "growth.csv").exists():
        lines += ["", "| step of StyleNet, 2 threads | time |", "|---|---|"]
        laws = {row["way"]: row for row in read_table(folder / "growth.csv")}
        for way, row in laws.items():
            constant, slope = (short(row[c]) for c in ("constant_ms", "microseconds_per_pixel"))
            lines.append(f"| {way} | {constant} ms + {slope} µs per pixel of the batch |")
    return "\n".join(lines) + "\n"


def fast_table() -> str | None:
    """What users get, in a row for each workload (benchmarks/measure.py); None before that.

    Only trainings can be in bf16, and images over a megapixel are stylized by strips.
    """
    path = ROOT / "benchmarks" / "step.csv"
    if not path.exists():
        return None
    lines = [
        "| what | as one writes it first | ours, fp32 | ours, bf16 | times as fast |",
        "|---|---|---|---|---|",
    ]
    works: dict[str, dict[str, dict[str, str]]] = {}
    for row in read_table(path):
        works.setdefault(measured_thing(row), {})[row["way"]] = row
    for what, ways in works.items():
        plain = next((ways[way] for way in PLAIN if way in ways), None)
        ours = ways.get("strips", ways.get("fp32"))
        bf16 = ways.get("bf16") if what.startswith("step") else None
        if plain and ours:
            shown = [plain, ours, *([bf16] if bf16 else [])]
            times = " | ".join(f"{short(row['median'])} s" for row in shown)
            ratios = ", ".join(short(row["ratio"]) for row in shown[1:])
            lines.append(f"| {what} | {times} |{'' if bf16 else ' |'} {ratios} |")
    return "\n".join(lines) + "\n"


def measured_thing(row: Mapping[str, str]) -> str:
    """What a row of step.csv has measured, in words."""
    threads = f"{row['threads']} thread{'s' * (row['threads'] != '1')}"
    return f"{BENCHED[row['workload']]}, {row['size']} px, batch {row['batch']}, {threads}"


def jobs_table() -> str | None:
    """How cores are shared out (benchmarks/jobs.py), as Markdown; None before it is measured."""
    path = ROOT / "benchmarks" / "jobs.csv"
    if not path.exists():
        return None
    lines = [
        "| step | cores | jobs at once | threads of each | time | images a second, all together |"
        " peak memory of each (MiB) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in read_table(path):
        what = f"{BENCHED[row['workload']]}, {row['size']} px, batch {row['batch']}"
        shared = " | ".join(row[name] for name in ("cores", "jobs", "threads"))
        time, rate = short(row["median"]), short(row["images_per_second"])
        memory = f"{float(row['peak_rss_mib']):.0f}"
        lines.append(f"| {what} | {shared} | {time} s | {rate} | {memory} |")
    return "\n".join(lines) + "\n"


def show(tables: Mapping[str, str]) -> None:
    """Put tables between their markers, on whichever page these stand."""
    for page in (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))):
        text = page.read_text()
        shown = functools.reduce(lambda made, name: between(made, name, tables[name]), tables, text)
        if shown != text:
            write_text(page, shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", action="store_true", help="only the tables of benchmarks")
    measured = {"bench": bench_table(), "fast": fast_table(), "jobs": jobs_table()}
    bench = {name: table for name, table in measured.items() if table}
    if parser.parse_args().bench:
        show(bench)
        return
    made = read_json(ROOT / "results" / "stylization.json")
    scale = made["scale"]
    if scale in NEVER:
        raise SystemExit(f"results/ is of scale '{scale}', whose numbers mean nothing")
    about = {
        "scale": scale,
        "seeds": made["seeds"],
        "commit": commit(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "job_seconds": spent(),
        "tolerance": TOLERANCE,
        "timed": TIMED,
    }
    target = ROOT / "expected" / scale
    target.mkdir(exist_ok=True)
    for name in KEPT:
        shutil.copyfile(ROOT / name, target / Path(name).name)
    write_json(target / "about.json", about)
    if scale != "embedded":
        return
    for run in RELEASED:
        (target / "generators" / run).mkdir(parents=True, exist_ok=True)
        for name in ("model.safetensors", "history.csv"):
            shutil.copyfile(ROOT / "results" / run / name, target / "generators" / run / name)

    _, metadata = read_tensors(LITE_WEIGHTS)
    r2 = json.loads(metadata["r2"])
    rows = [list(r2), ["---"] * len(r2), [f"{value:.2f}" for value in r2.values()]]
    tables = {n: (ROOT / "figures" / f"table_{n}.md").read_text()
              for n in ("claims", "speed", "textures")}  # fmt: skip
    tables["r2"] = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    tables |= {"precision": precision_table(), "bits": bits_table()}
    show(tables | bench)


if __name__ == "__main__":
    main()
