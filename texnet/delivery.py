"""A generator that somebody trained on images of their own: the files that are handed over.

``mine.safetensors`` has beside it ``mine.png``, what it makes, already while it is trained;
``mine.md``, its model card; ``mine.csv``, the training's history. The training works in
``mine.training``, which goes away at the end.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from texnet import cards, config
from texnet.artifacts import read_tensors, sha256, write_bytes, write_tensors, write_text
from texnet.data import square, style_image, write_image_grid
from texnet.errors import DataError, TexnetError, UsageError
from texnet.inputs import heldout_images, sample_group
from texnet.releases import run_of
from texnet.scoring import TextureMeter
from texnet.training import load_generator
from texnet.validation import difference

COLUMNS = 4
FACTS = ("texture", "sliced_wasserstein", "pairwise_features", "vendi")
"""Metrics of a texture that go with its generator."""


def workplace(out: Path) -> Path:
    """The folder in which ``out`` is trained: a checkpoint lies there while it is not done."""
    return out.with_name(f"{out.stem}.training")


def delivered(out: Path, run: config.Training) -> bool:
    """Whether ``out`` is a generator of this very run.

    Raises:
        UsageError: it is something else, which is not overwritten.
    """
    if not out.exists():
        return False
    try:
        found = difference(config.to_json(run_of(out)), config.to_json(run), ("device", "threads"))
    except (DataError, UsageError):
        found = "kind of file"
    if found:
        raise UsageError(
            f"{out}: is there, from another {found}; delete it or choose another --out"
        )
    return True


@contextmanager
def emptied(folder: Path) -> Iterator[None]:
    """Within it a mistake leaves no folder behind, unless a checkpoint is in there."""
    try:
        yield
    except TexnetError:
        if not any(folder.glob("checkpoint-*")):
            shutil.rmtree(folder, ignore_errors=True)
        raise


class Picture:
    """Shows what a generator makes of its held-out inputs: a callback of the training.

    Of a texture a piece of the exemplar, then samples; of a stylization, for each held-out image,
    it, the style and the result.
    """

    def __init__(self, run: config.Training, out: Path) -> None:
        self.path = out.with_suffix(".png")
        exemplar = style_image(*run.images.reference)
        self.contents: Tensor | None = None
        if isinstance(run.images, config.Texture):
            top, left = ((side - run.images.size) // 2 for side in exemplar.shape[-2:])
            piece = exemplar[:, top : top + run.images.size, left : left + run.images.size]
            self.exemplar = piece
        else:
            self.contents = heldout_images(run.images)
            self.exemplar = square(exemplar, run.images.heldout_size)

    def __call__(self, iteration: int, images: Tensor) -> None:
        """Write the picture, for images (B, 3, H, W) of any iteration."""
        made = images.detach().cpu().clamp(0, 1)
        if self.contents is None:
            write_image_grid(self.path, torch.cat([self.exemplar[None], made[:7]]), COLUMNS)
            return
        both = zip(self.contents, made, strict=True)
        rows = [torch.stack([content, self.exemplar, image]) for content, image in both]
        write_image_grid(self.path, torch.cat(rows), 3)


def deliver(run: config.Training, out: Path, device: torch.device) -> list[Path]:
    """Write ``out`` and what goes beside it from the finished training; the files, in order."""
    folder = workplace(out)
    tensors, metadata = read_tensors(folder / "model.safetensors")
    history = (folder / "history.csv").read_bytes()
    seconds = float(list(csv.DictReader(history.decode().splitlines()))[-1]["seconds"])
    metadata |= {"seconds": f"{seconds:.1f}", **_facts(run, folder, device)}
    metadata["exemplar_sha256"] = _checksum(run.images.reference[0])
    write_bytes(out.with_suffix(".csv"), history)
    write_tensors(out, tensors, {key: value for key, value in metadata.items() if value})
    write_text(out.with_suffix(".md"), cards.card(out))
    shutil.rmtree(folder)
    return [out, *(out.with_suffix(kind) for kind in (".png", ".md", ".csv"))]


def _facts(run: config.Training, folder: Path, device: torch.device) -> dict[str, str]:
    """Of a texture, what eight held-out samples measure."""
    if not isinstance(run.images, config.Texture):
        return {}
    net, _ = load_generator(folder / "model.safetensors")
    meter = TextureMeter(run, device)
    with torch.no_grad():
        rows = meter(run.name, run.seed, 0, sample_group(net.to(device), run.images.size, 0))
    return {row.metric: f"{row.value:.4g}" for row in rows if row.metric in FACTS}


def _checksum(source: str) -> str:
    """SHA-256 of an exemplar that is a file; nothing for one that has a name."""
    path = Path(source)
    return sha256(path) if path.is_file() else ""
