"""What of a training depends on the machine: benchmarks/bits.csv and a table.

One training, again, with two threads, and as a processor without AVX-512 computes it (oneDNN, MKL
and PyTorch are told to use AVX2). Each is a process of its own, as in the workflow.

    python benchmarks/bits.py [config/config.yaml]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean

import torch
from tabulate import tabulate

from texnet import artifacts
from texnet.__main__ import main as texnet
from texnet.tables import read_table, write_table

ROOT = Path(__file__).resolve().parents[1]
RUN = "stylenet_in_seed0"
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2"}
WAYS: dict[str, tuple[int, dict[str, str]]] = {
    "as it is": (1, {}),
    "again": (1, {}),
    "2 threads": (2, {}),
    "as without AVX-512": (1, AVX2),
}
COLUMNS = ("way", "same_bytes", "weights_differ_by", "first_loss", "loss", "heldout")


def trained(run: Path, threads: int, env: dict[str, str], out: Path) -> None:
    """Train as ``run`` says, with some threads, in an environment."""
    described = artifacts.read_json(run) | {"threads": threads}
    artifacts.write_json(out.parent / "run.json", described)
    subprocess.run(
        [sys.executable, "-m", "texnet", "train", out.parent / "run.json", out],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
        check=True,
    )


def row(way: str, model: Path, reference: Path) -> list[str | float]:
    """A training beside the reference: losses as factors, weights as a share of the largest."""
    ours, theirs = (artifacts.read_tensors(path)[0] for path in (model, reference))
    apart = max(float((ours[n] - t).abs().max() / t.abs().max()) for n, t in theirs.items())
    same = all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    pair = [read_table(path.with_name("history.csv")) for path in (model, reference)]
    tenth = max(1, len(pair[0]) // 10)
    first, last, heldout = (
        [float(h[0]["loss"]) for h in pair],
        [fmean(float(r["loss"]) for r in h[-tenth:]) for h in pair],
        [float(h[-1]["heldout"]) for h in pair],
    )
    return [way, "yes" if same else "no", apart, *(a / b for a, b in (first, last, heldout))]


def main() -> None:
    source = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "config" / "config.yaml")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if code := texnet(["configure", source, "-o", str(folder)]):
            raise SystemExit(code)
        models = {way: folder / way.replace(" ", "_") / "model.safetensors" for way in WAYS}
        for way, (threads, env) in WAYS.items():
            trained(folder / RUN / "run.json", threads, env, models[way])
        rows = [row(way, model, models["as it is"]) for way, model in models.items()]
    write_table(ROOT / "benchmarks" / "bits.csv", COLUMNS, rows)
    print(tabulate(rows, COLUMNS, tablefmt="github", floatfmt=".7g"))


if __name__ == "__main__":
    main()
