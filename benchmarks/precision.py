"""Losses in bf16 against fp32, over whole trainings: benchmarks/precision.csv and a table.

Trainings amplify rounding: another number of threads, which changes nothing but the order of sums,
says how much of a difference means nothing.

    python benchmarks/precision.py [config/config.yaml]
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path
from statistics import fmean

import torch
from tabulate import tabulate

from texnet import config, runtime, training
from texnet.__main__ import main as texnet
from texnet.inputs import Inputs
from texnet.tables import read_table, write_table

ROOT = Path(__file__).resolve().parents[1]
RUNS = (
    "stylenet_in_seed0",
    "stylenet_bn_seed0",
    "v1_berries_seed0",
    "v2_berries_seed0",
)
WAYS = {
    "fp32": (config.Acceleration(), 1),
    "fp32, 2 threads": (config.Acceleration(), 2),
    "bf16": (config.Acceleration(precision="bf16"), 1),
}
Row = tuple[str, str, float, float, float, float, float]
COLUMNS = (
    "run", "way", "loss", "loss_over_fp32", "heldout", "heldout_over_fp32", "same_images_over_fp32",
)  # fmt: skip


def trained(run: config.Training, folder: Path) -> tuple[float, float]:
    """Mean loss of the last tenth of the iterations, held-out objective at the end."""
    device = runtime.prepare(run.device, run.threads, run.acceleration.precision)
    training.train(run, folder / "model.safetensors", device)
    rows = read_table(folder / "history.csv")
    last = rows[-max(1, len(rows) // 10) :]
    return fmean(float(row["loss"]) for row in last), float(rows[-1]["heldout"])


@torch.no_grad()
def of_the_same_images(run: config.Training, model: Path) -> float:
    """The objective of what a trained generator makes of the held-out images."""
    device = runtime.prepare(run.device, 1, run.acceleration.precision)
    net, _ = training.load_generator(model)
    heldout = Inputs(run, net.to(device), device).heldout
    objective = training.objective_of(run, device)
    objective = objective.rounded() if run.acceleration.precision == "bf16" else objective
    terms = objective(net(*heldout), objective.content_targets(heldout[0]), diversity=False)
    return terms.total.mean().item()


def rows_of(run: config.Training, folder: Path) -> list[Row]:
    """One row for each way of computing the training."""
    rows: list[Row] = []
    models, runs = {}, {}
    for way, (acceleration, threads) in WAYS.items():
        runs[way] = dataclasses.replace(run, threads=threads, acceleration=acceleration)
        models[way] = folder / way / "model.safetensors"
        loss, heldout = trained(runs[way], models[way].parent)
        fp32, fp32_heldout = (rows[0][2], rows[0][4]) if rows else (loss, heldout)
        same = of_the_same_images(runs[way], models["fp32"])
        over = same / of_the_same_images(runs["fp32"], models["fp32"])
        rows.append((run.name, way, loss, loss / fp32, heldout, heldout / fp32_heldout, over))
        print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    source = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "config" / "config.yaml")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if code := texnet(["configure", source, "-o", str(folder)]):
            raise SystemExit(code)
        for name in RUNS:
            print(name, file=sys.stderr, flush=True)
            run = config.read_run(folder / name / "run.json")
            if isinstance(run, config.Training):
                rows += rows_of(run, folder / name)
    write_table(ROOT / "benchmarks" / "precision.csv", COLUMNS, rows)
    print(tabulate(rows, COLUMNS, tablefmt="github", floatfmt=".4g"))


if __name__ == "__main__":
    main()
