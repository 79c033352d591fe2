"""Figure 7: too much diversity gives spots of brightness; samples along the sweep of T."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt

from figures.style import COLOURS, WIDTH, save, show_image
from texnet.artifacts import read_json
from texnet.inputs import sample_group
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="figure to write (.pdf; a .png goes beside it)")
    parser.add_argument("--roles", type=Path, required=True, help="results/textures.json")
    args = parser.parse_args()
    prepare()
    part, results = read_json(args.roles), args.roles.parent
    exemplars, seed = part["exemplars"], part["sweep_seeds"][0]

    columns = SHOWN * len(part["sweep"])
    figure = plt.figure(figsize=(WIDTH, 0.2 + 1.2 * len(exemplars)), layout="constrained")
    rows = figure.subfigures(len(exemplars), 1, squeeze=False)[:, 0]
    for row, exemplar in zip(rows, exemplars, strict=True):
        left, right = row.subfigures(1, 2, width_ratios=[0.55 * columns, 2.2])
        axes = left.subplots(1, columns)
        table = read_table(results / "sweep" / f"{exemplar}.csv")
        chosen = {line["run"] for line in table if line["chosen"] == "1"}
        for k, (run, temperature) in enumerate(part["sweep"].items()):
            path = results / f"{run}_{exemplar}_seed{seed}" / "model.safetensors"
            net, made = load_generator(path)
            images = sample_group(net, made.images.size, 0)[:SHOWN]
            for j, image in enumerate(images):
                title = f"T = {temperature:g}" + (" (chosen)" if run in chosen else "")
                show_image(axes[SHOWN * k + j], image, title if j == 0 else "")
        plot = right.subplots()
        for metric, (label, colour) in CURVES.items():
            lines = [line for line in table if line["metric"] == metric]
            unit = float(lines[0]["value"]) if metric != "spotting" else 1.0
            x = [float(line["temperature"]) for line in lines]
            y, low, high = ([float(line[c]) / unit for line in lines]
                            for c in ("value", "ci_low", "ci_high"))  # fmt: skip
            plot.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
            plot.plot(x, y, color=colour, marker=".", label=label)
        plot.axhline(part["spotting_limit"], color=COLOURS["batch"], linestyle=":", linewidth=0.8)
        plot.set(xscale="log", yscale="log", xlabel=f"T, {exemplar}")
        if row is rows[0]:
            plot.legend()
    save(figure, args.out)


if __name__ == "__main__":
    main()
