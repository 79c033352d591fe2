"""Released generators: trained once, kept with their history, taken instead of training again.

A release is a folder with ``RUN/model.safetensors`` and ``RUN/history.csv`` for some runs.
"""

from __future__ import annotations

import json
from pathlib import Path

from texnet import validation
from texnet.artifacts import GENERATOR, check_file, read_header, read_json, write_bytes
from texnet.config import Training, to_json
from texnet.errors import DataError
from texnet.validation import parse

# How a run was computed, not what it is.
UNIMPORTANT = ("device", "threads", "acceleration", "checkpoint_every")


def run_of(model: Path) -> Training:
    """The run that a generator's metadata describe; read without PyTorch.

    Raises:
        MissingError, DataError: no such file; not a generator of this project.
    """
    metadata = read_header(model, "a released generator").metadata
    if metadata.get("format") != GENERATOR or "run" not in metadata:
        raise DataError(f"{model}: is no generator made by texnet train")
    try:
        described = json.loads(metadata["run"])
    except ValueError as error:
        raise DataError(f"{model}: its metadata describe no run; restore the file") from error
    return parse(Training, described, str(model))


def difference(model: Path, run: Training) -> str | None:
    """The first key in which a released generator's run differs from another; None where none."""
    return validation.difference(to_json(run_of(model)), to_json(run), UNIMPORTANT)


def released(folder: Path, directory: str, run: Training) -> bool:
    """Whether a release has this very run, under the name of its directory."""
    model = folder / directory / "model.safetensors"
    return model.is_file() and difference(model, run) is None


def adopt(path: Path, model: Path, out: Path) -> None:
    """Take a released generator and its history as if ``path``, a run.json, had been trained.

    Raises:
        DataError: the generator is of another run; says in which key.
        MissingError, WriteError: a file is not there; ``out`` cannot be written.
    """
    run = parse(Training, read_json(path), str(path))
    if found := difference(model, run):
        raise DataError(
            f"{model}: was trained with another {found}; set weights: train, or restore the key"
        )
    history = check_file(model.parent / "history.csv", "the released generator's history")
    write_bytes(out.parent / "history.csv", history.read_bytes())
    write_bytes(out, model.read_bytes())
