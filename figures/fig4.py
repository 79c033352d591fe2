"""Figure 4: IN, BN and optimisation on images larger than those of the training."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch

from figures.style import WIDTH, arguments, save, show_image
from texnet.artifacts import read_tensors
from texnet.config import read_run, stylization
from texnet.data import load_image, square, style_image
from texnet.process import program
from texnet.runtime import prepare
from texnet.stylization_scoring import Stylizer

COLUMNS = ("content", "StyleNet IN", "StyleNet BN", "Gatys et al.", "style")


@torch.no_grad()
def main() -> None:
    out, part, results = arguments(__doc__)
    device, seed = prepare(), part["seeds"][0]
    nets = [
        Stylizer(results / f"{part[role]}_seed{seed}", device) for role in ("instance", "batch")
    ]
    style = style_image(*nets[0].run.images.reference)
    rows = []
    for role in ("larger", "largest"):
        folder = results / f"{part[role]}_seed{seed}"
        images = stylization(read_run(folder / "run.json"))
        optimised, _ = read_tensors(folder / "images.safetensors")
        for name in images.heldout:
            content = square(load_image(name), images.heldout_size)[None]
            made = [net(content)[0] for net in nets]
            row = (content[0], *made, optimised[f"{name}/end"], style)
            rows.append((images.heldout_size, row))

    size = (WIDTH, 0.3 + 1.36 * len(rows))
    figure, axes = plt.subplots(len(rows), len(COLUMNS), figsize=size, layout="constrained")
    for title, one in zip(COLUMNS, axes[0], strict=True):
        one.set_title(title)
    for line, (side, row) in zip(axes, rows, strict=True):
        for one, image in zip(line, row, strict=True):
            show_image(one, image, "")
        line[0].set_ylabel(f"{side} pixels")
    save(figure, out)


if __name__ == "__main__":
    program(main)
