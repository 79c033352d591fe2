"""What is said of a run where others read it: nothing of the machine, and nothing invented."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import PureWindowsPath
from typing import Any

from texnet.config import Images, Texture, Training, to_json
from texnet.registry import DRAWN, PHOTOS, registered

UNKNOWN = "imported; how it was trained is not known"
"""What there is to say of the training of an imported generator."""


def shareable(run: Training) -> Training:
    """A run whose files and folders have their base names alone: paths tell of people and places.

    Names of photographs, of drawn exemplars and of the registry stay. Different files of one name
    are numbered, and a file that is called like one of those names has ``./`` before it.
    """
    known = {*PHOTOS, *DRAWN, *registered()}
    shown: dict[str, str] = {}
    images = run.images
    pictures: Images | Texture
    if isinstance(images, Texture):
        pictures = replace(images, exemplar=_base(images.exemplar, known, shown))
    else:
        style = _base(images.style, known, shown)
        contents = tuple(_base(name, known, shown) for name in images.contents)
        heldout = tuple(_base(name, known, shown) for name in images.heldout)
        pictures = replace(images, style=style, contents=contents, heldout=heldout)
    weights = run.descriptor.weights and _base(run.descriptor.weights, registered(), {})
    return replace(run, images=pictures, descriptor=replace(run.descriptor, weights=weights))


def _base(given: str, known: Collection[str], shown: dict[str, str]) -> str:
    """The base name of a file, other than those that are ``shown``, which grows by it."""
    if given in known:
        return given
    if given not in shown:
        path = PureWindowsPath(given)  # knows both kinds of slashes
        name = path.name or "unnamed"
        found, number = f"./{name}" if name in known else name, 1
        while found in shown.values():
            number += 1
            found = f"{path.stem} ({number}){path.suffix}"
        shown[given] = found
    return shown[given]


def told(run: Training, imported: bool) -> dict[str, Any]:
    """What is said of a run in plain JSON types: ``run``, and ``training`` where it is not known.

    Of an imported generator the run has its name, the network and what it was trained on; the rest
    of it is assumed, and left out.
    """
    described = to_json(run)
    if not imported:
        return {"run": described}
    images = {k: v for k, v in described["images"].items() if k in ("style", "exemplar")}
    network = {key: described[key] for key in ("name", "generator")}
    return {"run": {**network, "images": images}, "training": UNKNOWN}
