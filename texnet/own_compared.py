"""What is measured beside each other, and how: models and images of whatever origin.

Layers, weights, descriptor and sizes are those of the first model, else of the preset.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from texnet import config, data, own
from texnet.artifacts import read_header, sha256
from texnet.config import Optimisation, Texture, Training
from texnet.errors import DataError, MissingError, UsageError
from texnet.generators import Network
from texnet.registry import DRAWN, PHOTOS, registered
from texnet.training import load_generator

REFERENCES = ("crops", "repeated")
"""Rows of the exemplar itself; nothing else has these names."""


@dataclass(frozen=True)
class Given:
    """A model, an image or a folder of images, under the name of its row."""

    name: str
    path: Path
    net: Network | None = None
    run: Training | None = None

    @property
    def files(self) -> list[Path]:
        """Its images; none of a model."""
        return [] if self.run else pictures(self.path)


def named(paths: Sequence[Path]) -> list[Given]:
    """What is to be measured, models loaded, each under a name of its own.

    Raises:
        UsageError: a path is named twice.
        MissingError, DataError: of a model.
    """
    given = []
    for path, name in zip(paths, names(paths), strict=True):
        # A generator is one by its name.
        net, run = load_generator(path) if path.suffix == ".safetensors" else (None, None)
        given.append(Given(name, path, net, run))
    return given


def names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of some paths that tell them apart, without suffix where that does.

    Raises:
        UsageError: a path is named twice.
    """
    whole = [Path(os.path.abspath(path)) for path in paths]
    for path, times in Counter(whole).items():
        if times > 1:
            raise UsageError(f"{paths[whole.index(path)]}: is named {times} times; name it once")
    bare = [path if path.is_dir() else path.with_suffix("") for path in whole]
    alike = Counter(bare)
    ends = [b.parts if alike[b] == 1 else w.parts for b, w in zip(bare, whole, strict=True)]
    found = []
    for own_parts in ends:
        for length in range(1, len(own_parts) + 1):
            end = own_parts[-length:]
            same = sum(parts[-length:] == end for parts in ends)
            if same == 1 and end not in [(name,) for name in REFERENCES]:
                break
        found.append(str(Path(*end)))
    return found


def pictures(path: Path) -> list[Path]:
    """The images that a path stands for."""
    return data.images_under([path]) if path.is_dir() else [path]


def contents_of(path: Path) -> dict[str, Path]:
    """Content images by their names without suffix.

    Raises:
        UsageError: two of one name: which of them an image is of could not be told.
    """
    found: dict[str, Path] = {}
    for file in pictures(path):
        if file.stem in found:
            raise UsageError(
                f"{found[file.stem]} and {file}: two contents of one name; rename or remove one"
            )
        found[file.stem] = file
    return found


def first_run(given: Iterable[Given]) -> Training | None:
    """The training of the first model among what is given."""
    return next((each.run for each in given if each.run), None)


def check_kinds(given: Sequence[Given], content: Path | None, choices: own.Choices) -> None:
    """UsageError for what cannot be measured together, or options without effect."""
    for each in given:
        if each.run is None:
            continue
        if choices.preset != own.Choices.preset:
            raise UsageError(
                f"--preset {choices.preset}: {each.path} says how it is measured; leave it out, or "
                "use --descriptor, --size, --exemplar-size"
            )
        if isinstance(each.run.images, Texture):
            if content is not None:
                raise UsageError(
                    f"{each.path}: makes textures, which have no --content; leave that out, or "
                    "score the model apart"
                )
        elif content is None:
            raise UsageError(
                f"{each.path}: stylizes: name the photograph, or the folder of them, that is "
                "stylized, with --content"
            )


def exemplar_of(given: Sequence[Given], chosen: str | None) -> str:
    """What is measured against: what was named, else the exemplar of the first model.

    Raises:
        UsageError, MissingError: no exemplar is known, or it is not there.
        DataError: another picture has its name.
    """
    if chosen is not None:
        return chosen
    model = next((each for each in given if each.run), None)
    if model is None or model.run is None:
        first = given[0].path
        if first.is_dir():
            raise MissingError(
                f"{first}/run.json: no such file; name the folder of a run, or an --exemplar to "
                "hold its images against"
            )
        raise UsageError(f"{first}: measured against what? name an --exemplar")
    source = model.run.images.reference[0]
    if source in (*PHOTOS, *DRAWN, *registered()):
        return source
    if not Path(source).is_file():
        raise MissingError(
            f"{source}: no such file, which is the exemplar of {model.path}; name it with "
            "--exemplar"
        )
    wanted = read_header(model.path).metadata.get("exemplar_sha256")
    if wanted and sha256(Path(source)) != wanted:
        raise DataError(
            f"{source}: is not the picture that {model.path} was trained on, which has SHA-256 "
            f"{wanted}; name that one, or any other to measure against, with --exemplar"
        )
    return source


# How it is measured


def measurement(
    run: Training, images: config.Images | Texture, choices: own.Choices
) -> Optimisation:
    """Layers, weights and descriptor of a model, on other images."""
    objective = replace(
        run.objective, temperature=1.0, diversity_weight=0.0, normalise_gradients=False
    )
    return Optimisation(
        name=own.label(images.reference[0]),
        seed=choices.seed,
        descriptor=choices.of.descriptor if choices.descriptor else run.descriptor,
        objective=objective,
        images=images,
        start="noise",
        evaluations=1,
    )


def texture_run(given: Sequence[Given], exemplar: str, choices: own.Choices) -> Optimisation:
    """How textures are measured: as the first model was trained, else by the preset.

    Without model and ``size`` it is the largest that all images and the exemplar have.

    Raises:
        UsageError: sizes that cannot be.
    """
    with own.one_line():
        run = first_run(given)
        if run is not None and isinstance(run.images, Texture):
            images = replace(
                run.images,
                exemplar=exemplar,
                size=choices.size or run.images.size,
                exemplar_size=choices.exemplar_size or run.images.exemplar_size,
            )
            return measurement(run, images, choices)
        sides = [min(shape_of(file)) for each in given for file in each.files]
        fitting = min([*sides, min(data.load_image(exemplar).shape[-2:])])
        return own.optimisation(exemplar, replace(choices, size=choices.size or fitting))


def shape_of(file: Path) -> tuple[int, int]:
    """Height and width of an image."""
    height, width = data.read_image(file).shape[-2:]
    return height, width


def compared_size(given: Sequence[Given], exemplar: str, choices: own.Choices) -> int:
    """The longer side at which stylizations are compared: the one chosen, else the smallest."""
    if choices.size:
        return choices.size
    sides = [max(shape_of(file)) for each in given for file in each.files]
    sides += [config.stylization(each.run).heldout_size for each in given if each.run]
    if first_run(given) is None:
        sides.append(max(data.load_image(exemplar).shape[-2:]))
    return min(sides)


def style_run(
    given: Sequence[Given],
    exemplar: str,
    contents: Mapping[str, Path],
    choices: own.Choices,
    size: int,
) -> Optimisation:
    """How stylizations are measured: as the first model was trained, else by the preset.

    The style is as large beside an image of ``size`` as it was beside that model's.
    """
    with own.one_line():
        run = first_run(given)
        if run is None:
            content = str(next(iter(contents.values())))
            return own.optimisation(exemplar, replace(choices, size=size), content=content)
        images = config.stylization(run)
        made = max(images.heldout_size, size)
        shown = max(data.MIN_SIDE, round(images.style_size * size / made))
        style_size = choices.exemplar_size or shown
        images = replace(images, style=exemplar, style_size=style_size, heldout_size=size)
        return measurement(run, images, choices)


def comparison(run: Optimisation, size: int, choices: own.Choices) -> str:
    """A line that says at which size stylizations are compared, and what the objective is."""
    weights, how = run.objective, "" if choices.size else " (the smallest; see --size)"
    tv = f" + {weights.tv_weight:g} total variation" if weights.tv_weight else ""
    return (
        f"compared with a longer side of {size} pixels{how}, the style with "
        f"{run.images.reference[1]}; objective = {weights.style_weight:g} texture + "
        f"{weights.content_weight:g} content{tv}"
    )
