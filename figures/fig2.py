"""Figure 2: what is normalised, and where: BN, LRN or IN at the first layer, IN everywhere."""

from __future__ import annotations

from statistics import fmean

import matplotlib.pyplot as plt
import torch

from figures.style import WIDTH, arguments, save, show_image
from texnet.process import program
from texnet.runtime import prepare
from texnet.stylization_scoring import Stylizer
from texnet.tables import read_scores

COLUMNS = {
    "batch": "BN",
    "lrn_first": "BN, LRN at first layer",
    "instance_first": "BN, IN at first layer",
    "instance": "IN everywhere",
}


@torch.no_grad()
def main() -> None:
    out, part, results = arguments(__doc__)
    device, seed = prepare(), part["seeds"][0]
    made = {role: Stylizer(results / f"{part[role]}_seed{seed}", device) for role in COLUMNS}
    contents = made["instance"].contents

    figure, axes = plt.subplots(
        len(contents),
        1 + len(COLUMNS),
        figsize=(WIDTH, 0.3 + 1.36 * len(contents)),
        layout="constrained",
        squeeze=False,
    )
    axes[0, 0].set_title("content")
    for row, content in zip(axes, contents, strict=True):
        show_image(row[0], content, "")
    for j, (role, title) in enumerate(COLUMNS.items(), start=1):
        axes[0, j].set_title(title)
        scores = read_scores([results / "scores" / f"{part[role]}.csv"])
        mean = fmean(row.value for row in scores if row.metric == "objective")
        for i, image in enumerate(made[role](contents)):
            said = f"objective {mean / 1e6:.2f} million" if i == len(contents) - 1 else ""
            show_image(axes[i, j], image, said)
    save(figure, out)


if __name__ == "__main__":
    program(main)
