"""Figure 3: the objective under training and finetuning, and the images at both ends."""

from pathlib import Path

import numpy as np

from figures.style import COLOURS, WIDTH, arguments, band, curves, plt, save, show_image
from texnet.artifacts import read_tensors
from texnet.config import read_run, stylization
from texnet.data import load_image, square, style_image
from texnet.process import program


def smooth(curve: np.ndarray) -> np.ndarray:
    """Running geometric mean over 1/40 of the curve: one batch's luck must not hide the trend."""
    width = max(1, len(curve) // 40)
    return np.exp(np.convolve(np.log(curve), np.ones(width) / width, mode="valid"))


def main() -> None:
    out, part, results = arguments(__doc__)

    def runs(role: str) -> list[Path]:
        return [results / f"{part[role]}_seed{seed}" for seed in part["seeds"]]

    panels = "aaabbb;ccddee;ffgghh"
    figure, axes = plt.subplot_mosaic(panels, figsize=(WIDTH, 0.98 * WIDTH), layout="constrained")
    for role, name in (("batch", "StyleNet BN"), ("instance", "StyleNet IN")):
        losses = curves(runs(role), "loss")
        smoothed = np.apply_along_axis(smooth, 1, losses)
        first = 1 + (losses.shape[1] - smoothed.shape[1]) / 2
        band(axes["a"], smoothed, COLOURS[role], name, first)
    starts = {"noise": "from noise", "from_batch": "from BN", "from_instance": "from IN"}
    for role, name in starts.items():
        best = np.minimum.accumulate(curves(runs(role), "objective"), axis=1)
        band(axes["b"], best, COLOURS[role.removeprefix("from_")], name)
    axes["a"].set(xlabel="(a) training: iteration", ylabel="objective")
    axes["b"].set(xlabel="(b) finetuning: evaluation of L-BFGS", ylabel="lowest objective so far")
    for key in "ab":
        axes[key].set_yscale("log")
        axes[key].legend()

    shown, images = part["content"], stylization(read_run(runs("instance")[0] / "run.json"))
    show_image(axes["c"], square(load_image(shown), images.heldout_size), "(c) content")
    show_image(axes["f"], style_image(images.style, images.style_size), "(f) style")
    for role, name, before, after in (("batch", "BN", "d", "g"), ("instance", "IN", "e", "h")):
        pair, _ = read_tensors(runs(f"from_{role}")[0] / "images.safetensors")
        show_image(axes[before], pair[f"{shown}/start"], f"({before}) StyleNet {name}")
        show_image(axes[after], pair[f"{shown}/end"], f"({after}) finetuned from {name}")
    save(figure, out)


if __name__ == "__main__":
    program(main)
