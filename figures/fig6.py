"""Figure 6: stylizations of one content image with and without diversity term, other noise each."""

from __future__ import annotations

from statistics import fmean

import matplotlib.pyplot as plt
import torch

from figures.style import WIDTH, arguments, save, show_image
from texnet.config import GROUP
from texnet.data import style_image
from texnet.metrics import deviation_over_noise
from texnet.process import program
from texnet.runtime import prepare
from texnet.stylization_scoring import Stylizer
from texnet.tables import read_scores

SHOWN = 4
ROWS = {"diverse": r"$\lambda > 0$", "noisy": r"$\lambda = 0$"}


@torch.no_grad()
def main() -> None:
    out, part, results = arguments(__doc__)
    device, seed = prepare(), part["seeds"][0]
    figure, axes = plt.subplots(2, SHOWN + 2, figsize=(WIDTH, 2.75), layout="constrained")
    maps, deviations = [], []
    for row, (role, name) in zip(axes, ROWS.items(), strict=True):
        net = Stylizer(results / f"{part[role]}_seed{seed}", device)
        images = net.images
        content = net.contents[images.heldout.index(part["uniform"])][None]
        samples = net(content.expand(GROUP, -1, -1, -1), draw=1)
        if role == "diverse":
            show_image(row[0], content[0], "content")
        else:
            show_image(row[0], style_image(*images.reference), "style")
        for one, image in zip(row[1:], samples[:SHOWN], strict=False):
            show_image(one, image, "")
        row[1].set_ylabel(name)
        rows = read_scores([results / "scores" / f"{part[role]}.csv"])
        mean = fmean(r.value for r in rows if r.metric == "noise_deviation")
        maps.append(255 * deviation_over_noise(samples))
        deviations.append(255 * mean)
    top = max(float(found.max()) for found in maps)
    for row, found, mean in zip(axes, maps, deviations, strict=True):
        row[-1].set(xticks=[], yticks=[], xlabel=f"mean {mean:.1f}")
        row[-1].grid(False)
        shown = row[-1].imshow(found, cmap="magma", vmin=0, vmax=top)
    axes[0, -1].set_title("deviation over noise")
    axes[0, 1].set_title("samples", loc="left")
    figure.colorbar(shown, ax=axes[:, -1], label="of 255", shrink=0.8)
    save(figure, out)


if __name__ == "__main__":
    program(main)
