"""What benchmarks/measure.py found, as a figure: step.pdf and step.png beside the tables.

Run by it as ``python -m benchmarks.plot '{"folder": "benchmarks"}'``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from figures.style import COLOURS, WIDTH, save
from texnet.tables import read_table

Rows = Sequence[dict[str, str]]
COLOUR = {"fp32": COLOURS["instance"], "bf16": COLOURS["batch"], "strips": COLOURS["noise"]}
HATCH = {"direct": "////", "contiguous": "....", "part 2": "\\\\\\\\"}
"""Of ways that are a precision with something else, drawn lighter."""
BAR = 0.8
"""Height of a bar, of which each way has one."""
CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 0}


def colour(way: str) -> str:
    return COLOUR[way.partition(",")[0]]


def growth(axes: Axes, rows: Rows) -> None:
    """Seconds of a step over the pixels of its batch, and what the machine's rate allows."""
    for way in dict.fromkeys(row["way"] for row in rows):
        mine = [row for row in rows if row["way"] == way]
        pixels = np.array([int(row["size"]) ** 2 * int(row["batch"]) for row in mine])
        order = np.argsort(pixels)
        seconds, floor, fit = (
            np.array([float(row[name]) for row in mine]) for name in ("median", "floor", "fit")
        )
        a, b = float(mine[0]["constant_ms"]), float(mine[0]["microseconds_per_pixel"])
        name, hue = f"{way}: {a:.3g} ms + {b:.3g} µs per pixel", colour(way)
        axes.plot(pixels[order], fit[order], linewidth=0.8, color=hue)
        axes.plot(pixels, seconds, marker="o", markersize=3.5, linestyle="", label=name, color=hue)
        name = f"{way}: at the rate of a direct convolution"
        axes.plot(pixels[order], floor[order], linestyle="--", linewidth=0.8, label=name, color=hue)
    axes.set(xscale="log", yscale="log", xlabel="pixels of the batch", ylabel="seconds of a step")
    axes.set_xticks(*zip(*((side**2, f"{side}²") for side in sides(pixels)), strict=True))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.legend(loc="lower left", bbox_to_anchor=(-0.1, 1))


def sides(pixels: NDArray[np.integer]) -> list[int]:
    """Sides, powers of two, of squares from the least to the largest of some numbers of pixels."""
    low, high = (round(np.log2(each) / 2) for each in (pixels.min(), pixels.max()))
    return [2**power for power in range(low, high + 1)]


def ratios(axes: Axes, rows: Rows) -> None:
    """How many times as fast as the plain path each way of a workload is."""
    groups: dict[str, Rows] = {}
    for row in rows:
        if row["ratio"] and row["way"].partition(",")[0] in COLOUR:
            title = f"{row['workload'].replace('-', ' ')}, {row['size']} px"
            groups[title] = [*groups.get(title, ()), row]
    at, ticks, known = 0.0, [], set()
    for mine in groups.values():
        ticks.append(at + (len(mine) - 1) / 2)
        for row in mine:
            way, ratio = row["way"], float(row["ratio"])
            name = None if way in known else way
            _, _, other = way.partition(", ")
            bars = axes.barh(at, ratio, BAR, label=name)
            face = (*to_rgb(colour(way)), 0.4 if other else 1)
            for bar in bars:
                bar.set(facecolor=face, edgecolor="white", linewidth=0, hatch=HATCH.get(other))
            axes.text(ratio, at, f" {ratio:.3g}", va="center", fontsize=6, bbox=CLEAR)
            known.add(way)
            at += 1
        at += 1
    axes.axvline(1, color="black", linewidth=0.6)
    axes.set_yticks(ticks, groups)
    axes.grid(axis="y", visible=False)
    axes.set(ylim=(at - 1.3, -0.7), xlabel="times as fast as the plain path")
    axes.margins(x=0.15)
    if known:
        axes.legend(loc="lower center", bbox_to_anchor=(0.3, 1), ncols=3)


def draw(folder: str) -> list[str]:
    """The panels whose tables are there; returns which, and draws nothing where there are none."""
    paths = {name: Path(folder) / f"{name}.csv" for name in PANELS}
    shown = [name for name, path in paths.items() if path.exists()]
    if not shown:
        return shown
    figure, axes = plt.subplots(
        1, len(shown), figsize=(WIDTH, 4.2), layout="constrained", squeeze=False
    )
    for one, name in zip(axes[0], shown, strict=True):
        PANELS[name](one, read_table(paths[name]))
    save(figure, Path(folder) / "step.pdf")
    plt.close(figure)
    return shown


PANELS = {"growth": growth, "step": ratios}


if __name__ == "__main__":
    print(json.dumps(draw(**json.loads(sys.argv[1]))))
