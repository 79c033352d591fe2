"""The only code that figures share: colours, panels, curves, byte-reproducible saving."""

from __future__ import annotations

import argparse
import io
from collections import defaultdict
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from texnet.artifacts import read_json, write_bytes
from texnet.tables import read_table

plt.style.use(Path(__file__).with_name("paper.mplstyle"))

WIDTH = 6.875
"""Text width of the paper, in inches."""
COLOURS = {"instance": "#1b6ca8", "batch": "#c8553d", "noise": "#5b5b5b"}


def arguments(description: str) -> tuple[Path, dict[str, Any], Path]:
    """The command line of a figure: the file to write, the roles of the runs, results/."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("out", type=Path, help="figure to write (.pdf; a .png goes beside it)")
    parser.add_argument(
        "--roles", type=Path, required=True, help="JSON: which run plays which part"
    )
    args = parser.parse_args()
    return args.out, read_json(args.roles), args.roles.parent


def show_image(axes: Axes, image: ArrayLike, title: str) -> None:
    """An image (3, H, W) in [0, 1], clamped, with a caption below and no axes."""
    axes.imshow(np.clip(np.moveaxis(np.asarray(image), 0, -1), 0, 1))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel(title, labelpad=3)


def band(
    axes: Axes, curves: NDArray[np.floating], colour: str, label: str, first: float = 0
) -> None:
    """Median over the rows of ``curves`` as a line, their range as a band, from x = ``first``."""
    x = first + np.arange(curves.shape[1])
    axes.fill_between(x, curves.min(0), curves.max(0), color=colour, alpha=0.2, linewidth=0)
    axes.plot(x, np.median(curves, axis=0), color=colour, label=label)


def curves(directories: list[Path], column: str) -> NDArray[np.floating]:
    """One curve of ``column`` per directory, or per directory and content image, as rows.

    L-BFGS may stop before its budget is used: what it reached then stands for the rest.
    """
    found = defaultdict(list)
    for directory in directories:
        for row in read_table(directory / "history.csv"):
            image = row["content"] if "evaluation" in row else None
            found[directory, image].append(float(row[column]))
    length = max(map(len, found.values()))
    return np.array([np.pad(c, (0, length - len(c)), mode="edge") for c in found.values()])


def save(figure: Figure, out: Path) -> None:
    """Write ``out`` (.pdf) and the .png beside it, without dates, atomically."""
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], metadata=metadata)
        write_bytes(out.with_suffix(suffix), buffer.getvalue())
