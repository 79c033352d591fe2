"""A generator that somebody trained on images of their own: the files that are handed over.

``mine.safetensors`` has beside it ``mine.png``, what it makes, already while it is trained;
``mine.md``, its model card; ``mine.csv``, the training's history. The training works in
``mine.training``, which goes away at the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from texnet import cards, config
from texnet.artifacts import (
    read_header,
    read_json,
    read_tensors,
    sha256,
    write_bytes,
    write_json,
    write_tensors,
    write_text,
)
from texnet.data import square, style_image, write_image_grid
from texnet.errors import DataError, TexnetError, UsageError
from texnet.inputs import heldout_images, sample_group
from texnet.releases import run_of
from texnet.scoring import TextureMeter
from texnet.training import COLUMNS as HISTORY
from texnet.training import SAMPLES, load_generator
from texnet.validation import difference, parse

BESIDE = (".png", ".md", ".csv")
"""Suffixes of what lies beside a model."""
COLUMNS = 4
FACTS = ("texture", "sliced_wasserstein", "pairwise_features", "vendi")
"""Metrics of a texture that go with its generator."""
HOW = ("device", "threads")
"""Of a run, how it is computed, not what."""
RUN, MODEL, HISTORY_FILE = "run.json", "model.safetensors", "history.csv"


def workplace(out: Path) -> Path:
    """The folder in which ``out`` is trained: a checkpoint lies there while it is not done."""
    return out.with_name(f"{out.stem}.training")


def delivered(out: Path, run: config.Training) -> bool:
    """Whether ``out`` is a generator of this very run, on this very exemplar.

    Raises:
        UsageError: it is something else, which is not overwritten.
    """
    if not out.exists():
        return False
    try:
        found = difference(config.to_json(run_of(out)), config.to_json(run), HOW)
        if not found and read_header(out).metadata.get("exemplar_sha256", "") != checksum(run):
            found = f"picture of the name {run.images.reference[0]}"
    except (DataError, UsageError):
        found = "kind of file"
    if found:
        raise UsageError(
            f"{out}: is there, from another {found}; delete it or choose another --out"
        )
    return True


def begun(out: Path, run: config.Training) -> config.Training:
    """Begin a training, or go on with the one that its folder holds; the run, as it was begun.

    Nothing of the user's is overwritten, neither beside ``out`` nor in the folder.

    Raises:
        UsageError: something else is there.
    """
    folder, unfinished = workplace(out), workplace(out) / RUN
    if unfinished.exists():
        try:
            kept = parse(config.Training, read_json(unfinished), str(unfinished))
        except TexnetError:
            kept = None
        found = difference(config.to_json(kept), config.to_json(run), HOW) if kept else "file"
        if found:
            raise UsageError(
                f"{folder}: holds an unfinished training of another {found}; delete it or choose "
                "another --out"
            )
        run = replace(run, threads=kept.threads) if kept else run
    there = folder.glob("*") if folder.is_dir() else ()
    others = [path for path in there if not _ours(path, out)]
    if others:
        raise UsageError(f"{others[0]}: no training made that; choose another --out")
    inputs = {os.path.realpath(name) for name in run.images.files}
    for path in map(out.with_suffix, BESIDE):
        if os.path.realpath(path) in inputs:
            raise UsageError(f"{path}: is an input, and would be overwritten; choose another --out")
        if path.exists() and not unfinished.exists() and not _delivery(out):
            raise UsageError(
                f"{path}: is there, and the training would write beside its model; move it or "
                "choose another --out"
            )
    write_json(unfinished, config.to_json(run))
    return run


def _ours(path: Path, out: Path) -> bool:
    """Whether a file in the folder in which ``out`` is trained is the training's."""
    known = path.name in (RUN, MODEL, HISTORY_FILE, SAMPLES, out.name)
    unfinished = path.name.startswith(".") and path.suffix == ".part"
    return known or unfinished or path.name.startswith(("checkpoint-", ".texnet"))


def _delivery(out: Path) -> bool:
    """Whether what lies beside ``out`` came with a generator that was there: by its history."""
    try:
        with out.with_suffix(".csv").open(encoding="utf-8") as stream:
            return stream.readline().strip() == ",".join(HISTORY)
    except (OSError, ValueError):
        return False


@contextmanager
def emptied(out: Path) -> Iterator[None]:
    """Within it a mistake leaves no folder behind, unless there is something to go on with."""
    folder = workplace(out)
    try:
        yield
    except TexnetError:
        if not any(folder.glob("checkpoint-*")) and not (folder / MODEL).exists():
            clear(out)
        raise


def clear(out: Path) -> None:
    """Remove what a training made in its folder; and the folder, where nothing else is in it."""
    folder = workplace(out)
    for path in [path for path in folder.glob("*") if _ours(path, out)]:
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


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


def deliver(run: config.Training, exemplar: str, out: Path, device: torch.device) -> list[Path]:
    """Write what goes beside ``out``, and then ``out``, from the finished training in its folder.

    Interrupted, the same command does it again.

    Args:
        run: the training.
        exemplar: SHA-256 of the exemplar's file as it was when the training began; or nothing.
        out: the model to write.
        device: where a texture's samples are measured.

    Returns:
        The files, in the order of their importance.
    """
    folder = workplace(out)
    tensors, metadata = read_tensors(folder / MODEL)
    metadata |= _facts(run, folder, device)
    if exemplar:
        metadata["exemplar_sha256"] = exemplar
    whole = folder / out.name
    write_tensors(whole, tensors, metadata)
    write_bytes(out.with_suffix(".csv"), (folder / HISTORY_FILE).read_bytes())
    write_text(out.with_suffix(".md"), cards.card(whole))
    whole.replace(out)
    clear(out)
    return [out, *map(out.with_suffix, BESIDE)]


def _facts(run: config.Training, folder: Path, device: torch.device) -> dict[str, str]:
    """Of a texture, what eight held-out samples measure."""
    if not isinstance(run.images, config.Texture):
        return {}
    net, _ = load_generator(folder / MODEL)
    meter = TextureMeter(run, device)
    with torch.no_grad():
        rows = meter(run.name, run.seed, 0, sample_group(net.to(device), run.images.size, 0))
    return {row.metric: f"{row.value:.4g}" for row in rows if row.metric in FACTS}


def checksum(run: config.Training) -> str:
    """SHA-256 of an exemplar that is a file; nothing for one that has a name."""
    path = Path(run.images.reference[0])
    return sha256(path) if path.is_file() else ""
