"""Figure 7: too much diversity gives spots of brightness; samples along the sweep of T."""

from __future__ import annotations

import matplotlib.pyplot as plt

from figures.style import COLOURS, WIDTH, arguments, save, show_image
from texnet.inputs import sample_group
from texnet.process import program
from texnet.runtime import prepare
from texnet.tables import read_table
from texnet.training import load_generator

SHOWN = 2
CURVES = {
    "texture": ("texture loss, of lowest T's", COLOURS["noise"]),
    "pairwise_features": ("distance, of lowest T's", COLOURS["instance"]),
    "spotting": ("spotting, of exemplar's", COLOURS["batch"]),
}


def main() -> None:
    out, part, results = arguments(__doc__)
    prepare()
    exemplars, seed = part["exemplars"], part["sweep_seeds"][0]

    count = SHOWN * len(part["sweep"])
    figure, axes = plt.subplots(
        len(exemplars),
        count + 1,
        figsize=(WIDTH, 0.35 + 0.85 * len(exemplars)),
        width_ratios=[*[1] * count, 2.6],
        layout="constrained",
        squeeze=False,
    )
    for row, exemplar in zip(axes, exemplars, strict=True):
        table = read_table(results / "sweep" / f"{exemplar}.csv")
        chosen = {line["run"] for line in table if line["chosen"] == "1"}
        for k, (run, temperature) in enumerate(part["sweep"].items()):
            path = results / f"{run}_{exemplar}_seed{seed}" / "model.safetensors"
            net, made = load_generator(path)
            images = sample_group(net, made.images.size, 0)[:SHOWN]
            for j, image in enumerate(images):
                show_image(row[SHOWN * k + j], image, "chosen" * (run in chosen and j == 0))
            axes[0, SHOWN * k].set_title(f"T = {temperature:g}", loc="left")
        for metric, (label, colour) in CURVES.items():
            lines = [line for line in table if line["metric"] == metric]
            unit = float(lines[0]["value"]) if metric != "spotting" else 1.0
            x = [float(line["temperature"]) for line in lines]
            y, low, high = ([float(line[c]) / unit for line in lines]
                            for c in ("value", "ci_low", "ci_high"))  # fmt: skip
            row[-1].fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
            row[-1].plot(x, y, color=colour, marker=".", label=label)
        row[-1].axhline(
            float(table[0]["spotting_limit"]), color=COLOURS["batch"], linestyle=":", linewidth=0.8
        )
        row[-1].set(xscale="log", yscale="log", xlabel="T" * (exemplar == exemplars[-1]))
        row[0].set_ylabel(exemplar.replace("_", " "))
    figure.legend(*axes[0, -1].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    save(figure, out)


if __name__ == "__main__":
    program(main)
