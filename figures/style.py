"""The only plotting code that figures share: colours, panels, byte-reproducible saving."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from texnet.artifacts import write_bytes

plt.style.use(Path(__file__).with_name("paper.mplstyle"))

WIDTH = 6.875
"""Text width of the paper, in inches."""
COLOURS = {"instance": "#1b6ca8", "batch": "#c8553d", "noise": "#5b5b5b"}


def show_image(axes: Axes, image: ArrayLike, title: str) -> None:
    """An image (3, H, W) in [0, 1], clamped, with a caption below and no axes."""
    axes.imshow(np.clip(np.moveaxis(np.asarray(image), 0, -1), 0, 1))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel(title, labelpad=3)


def band(axes: Axes, curves: NDArray[np.floating], colour: str, label: str) -> None:
    """Median over the rows of ``curves`` as a line, their range as a band."""
    x = np.arange(curves.shape[1])
    axes.fill_between(x, curves.min(0), curves.max(0), color=colour, alpha=0.2, linewidth=0)
    axes.plot(x, np.median(curves, axis=0), color=colour, label=label)


def save(figure: Figure, out: Path) -> None:
    """Write ``out`` (.pdf) and the .png beside it, without dates, atomically."""
    for suffix, metadata in ((".pdf", {"CreationDate": None}), (".png", {"Software": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix[1:], metadata=metadata)
        write_bytes(out.with_suffix(suffix), buffer.getvalue())
