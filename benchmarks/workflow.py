"""How long the embedded scale takes and how much memory: writes benchmarks/workflow.csv.

Makes each figure, and then everything, from nothing in copies of the project, on a machine that
should have nothing else to do: `make bench`.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from texnet.tables import write_table

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = (".venv", ".git", ".snakemake", "results", "logs", "*.pdf", "*.tsv", "__pycache__")


def seconds(command: list[str], folder: Path) -> tuple[float, str]:
    """Wall time and output of a command that must succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(folder)}
    start = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return time.monotonic() - start, done.stdout + done.stderr


def peaks(folder: Path, rule: str) -> list[dict[str, str]]:
    """Snakemake's own measurements of the jobs of a rule."""
    rows = []
    for path in sorted((folder / "benchmarks").glob(f"{rule}_*.tsv")):
        with path.open(newline="") as stream:
            rows += list(csv.DictReader(stream, delimiter="\t"))
    return rows


def main() -> None:
    cores = str(os.cpu_count())
    rows: list[tuple[str, float, str]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for target in (f"fig{number}" for number in range(1, 8)):
            copy = Path(temporary) / target
            shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
            target = f"figures/{target}.pdf"
            spent, _ = seconds(["snakemake", "--cores", cores, target], copy)
            rows.append((f"{target} from nothing, {cores} cores", spent, "s"))
        copy = Path(temporary) / "all"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
        spent, _ = seconds(["snakemake", "-n", "all"], copy)
        rows.append(("dry run of the whole DAG", spent, "s"))
        spent, _ = seconds(["snakemake", "--cores", cores, "all"], copy)
        rows.append((f"everything from nothing, {cores} cores", spent, "s"))
        spent, said = seconds(["snakemake", "--cores", cores, "all"], copy)
        if "Nothing to be done" not in said:
            raise SystemExit("a second run had something to do")
        rows.append(("second run, nothing to be done", spent, "s"))
        for rule in ("train", "optimize"):
            jobs = peaks(copy, rule)
            longest = max(float(job["s"]) for job in jobs)
            memory = max(float(job["max_rss"]) for job in jobs)
            rows.append((f"longest {rule} job", longest, "s"))
            rows.append((f"peak memory of a {rule} job", memory, "MiB"))
    write_table(ROOT / "benchmarks" / "workflow.csv", ("what", "value", "unit"), rows)
    for what, value, unit in rows:
        print(f"{value:8.1f} {unit:4} {what}")


if __name__ == "__main__":
    main()
