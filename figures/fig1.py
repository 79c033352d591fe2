"""Figure 1: a content image stylized by BN in one pass, by optimisation, and by ours, twice."""

from __future__ import annotations

import matplotlib.pyplot as plt
import torch

from figures.style import WIDTH, arguments, save, show_image
from texnet.artifacts import read_tensors
from texnet.data import style_image
from texnet.process import program
from texnet.runtime import prepare
from texnet.stylization_scoring import Stylizer


@torch.no_grad()
def main() -> None:
    out, part, results = arguments(__doc__)
    device, seed, shown = prepare(), part["seeds"][0], part["content"]
    batch, ours = (
        Stylizer(results / f"{part[role]}_seed{seed}", device) for role in ("batch", "diverse")
    )
    images = batch.images
    content = batch.contents[images.heldout.index(shown)][None]
    gatys, _ = read_tensors(results / f"{part['noise']}_seed{seed}" / "images.safetensors")

    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 0.72 * WIDTH), layout="constrained")
    panels = (
        (content[0], "(a) content"),
        (batch(content)[0], "(b) one pass, BN"),
        (ours(content, draw=1)[0], "(c) one pass, ours"),
        (style_image(*images.reference), "(d) style"),
        (gatys[f"{shown}/end"], "(e) optimisation (Gatys et al.)"),
        (ours(content, draw=2)[0], "(f) one pass, ours, other noise"),
    )
    for one, (image, title) in zip(axes.flat, panels, strict=True):
        show_image(one, image, title)
    save(figure, out)


if __name__ == "__main__":
    program(main)
