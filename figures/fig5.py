"""Figure 5: samples of V2 without and with the diversity term, and of V1, for each exemplar."""

from __future__ import annotations

from statistics import fmean

import matplotlib.pyplot as plt

from figures.style import WIDTH, arguments, save, show_image
from texnet.data import style_image
from texnet.inputs import sample_group
from texnet.process import program
from texnet.runtime import prepare
from texnet.tables import Row, read_scores
from texnet.training import load_generator

SHOWN = 3
ROLES = {
    "collapsed": r"TextureNetV2, $\lambda = 0$",
    "diverse": r"TextureNetV2, $\lambda > 0$",
    "pyramid": r"TextureNetV1, $\lambda = 0$",
}


def summary(rows: list[Row], exemplar: str) -> str:
    """Means over seeds and groups of samples."""

    def mean(metric: str) -> float:
        return fmean(r.value for r in rows if (r.exemplar, r.metric) == (exemplar, metric))

    return f"loss {mean('texture'):.0f}   Vendi {mean('vendi'):.1f} of 8"


def main() -> None:
    out, part, results = arguments(__doc__)
    prepare()
    exemplars, seed = part["exemplars"], part["seeds"][0]

    size = (WIDTH, 0.3 + 0.85 * len(exemplars))
    figure = plt.figure(figsize=size, layout="constrained")
    widths = [1.25, *[SHOWN] * len(ROLES)]
    (first, *blocks), *_ = figure.subfigures(1, len(widths), squeeze=False, width_ratios=widths)
    originals = first.subplots(len(exemplars), 1, squeeze=False)
    first.suptitle("exemplar")
    for block, (role, title) in zip(blocks, ROLES.items(), strict=True):
        block.suptitle(title)
        rows = read_scores([results / "scores" / f"{part[role]}.csv"])
        axes = block.subplots(len(exemplars), SHOWN, squeeze=False)
        for i, exemplar in enumerate(exemplars):
            directory = results / f"{part[role]}_{exemplar}_seed{seed}"
            net, run = load_generator(directory / "model.safetensors")
            for j, image in enumerate(sample_group(net, run.images.size, 0)[:SHOWN]):
                said = summary(rows, exemplar) if j == SHOWN // 2 else ""
                show_image(axes[i, j], image, said)
            side = run.images.size  # a crop, so that all columns have one scale
            crop = style_image(*run.images.reference)[:, :side, :side]
            show_image(originals[i, 0], crop, exemplar.replace("_", " "))
    save(figure, out)


if __name__ == "__main__":
    program(main)
