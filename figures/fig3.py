"""Figure 3: the objective under training and finetuning, and the images at both ends."""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from style import COLOURS, WIDTH, band, plt, save, show_image

from texnet.artifacts import read_json, read_tensors
from texnet.config import read_run
from texnet.data import load_image, square, style_image


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def smooth(curve: list[float], width: int) -> np.ndarray:
    """Running geometric mean, so that one batch's luck does not hide the trend."""
    kernel = np.ones(width) / width
    return 10 ** np.convolve(np.log10(curve), kernel, mode="valid")


def training_curves(results: Path, run: str, seeds: list[int]) -> np.ndarray:
    losses = [
        [float(r["loss"]) for r in rows(results / f"{run}_seed{s}" / "history.csv")] for s in seeds
    ]
    return np.stack([smooth(curve, max(1, len(curve) // 40)) for curve in losses])


def finetuning_curves(results: Path, run: str, seeds: list[int]) -> np.ndarray:
    """Best objective so far, one curve per seed and image."""
    curves = defaultdict(list)
    for seed in seeds:
        for row in rows(results / f"{run}_seed{seed}" / "history.csv"):
            curves[seed, row["content"]].append(float(row["objective"]))
    length = min(map(len, curves.values()))
    return np.stack([np.minimum.accumulate(curve[:length]) for curve in curves.values()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="figure to write (.pdf; a .png goes beside it)")
    parser.add_argument("--roles", type=Path, required=True, help="results/fig3.json")
    args = parser.parse_args()
    part, results = read_json(args.roles), args.roles.parent
    seeds, shown = part["seeds"], part["content"]

    figure, axes = plt.subplot_mosaic(
        [["a"] * 3 + ["b"] * 3, list("ccddee"), list("ffgghh")],
        figsize=(WIDTH, 1.08 * WIDTH),
        height_ratios=[1, 1, 1],
        layout="constrained",
    )
    names = {"instance": "StyleNet IN", "batch": "StyleNet BN"}
    for role, name in reversed(names.items()):
        curves = training_curves(results, part[role], seeds)
        iterations = np.arange(curves.shape[1]) + 1
        band(axes["a"], iterations, curves, COLOURS[role], name)
    starts = {"noise": "from noise", "from_batch": "from BN", "from_instance": "from IN"}
    for role, name in starts.items():
        curves = finetuning_curves(results, part[role], seeds)
        colour = COLOURS[role.removeprefix("from_")]
        band(axes["b"], np.arange(curves.shape[1]), curves, colour, name)
    for key, title in (("a", "training: iteration"), ("b", "finetuning: evaluation of L-BFGS")):
        axes[key].set(yscale="log", xlabel=f"({key}) {title}", ylabel="objective")
        axes[key].legend()

    images = {}
    for role in ("from_batch", "from_instance"):
        images[role], _ = read_tensors(results / f"{part[role]}_seed{seeds[0]}/images.safetensors")
    run = read_run(results / f"{part['instance']}_seed{seeds[0]}" / "run.json")
    show_image(axes["c"], square(load_image(shown), run.images.heldout_size), "(c) content")
    show_image(axes["f"], style_image(run.images.style, run.images.style_size), "(f) style")
    for key, role, end, title in (
        ("d", "from_batch", "start", "(d) StyleNet BN"),
        ("e", "from_instance", "start", "(e) StyleNet IN"),
        ("g", "from_batch", "end", "(g) finetuned from BN"),
        ("h", "from_instance", "end", "(h) finetuned from IN"),
    ):
        show_image(axes[key], images[role][f"{shown}/{end}"], title)
    save(figure, args.out)


if __name__ == "__main__":
    main()
