"""The texture networks that the authors released for Torch 7, as TextureNetV1.

Files (:func:`read`) are read by :mod:`texnet.torch7_files`, which executes nothing of them, and
understood by :mod:`texnet.torch7_pyramid`. docs/authors.md says what is known and what is a guess.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from texnet import config, registry
from texnet.artifacts import GENERATOR, check_writable, sha256, write_tensors
from texnet.descriptors import CAFFE_MEAN_BGR
from texnet.errors import UsageError
from texnet.fields import PlainNorm
from texnet.layers import EPS
from texnet.texturenets import TextureNetV1
from texnet.torch7_files import read
from texnet.torch7_pyramid import MEASURED, Norm, Pyramid, Rule, Stage

__all__ = ["Pyramid", "Rule", "Statistics", "convert", "import_generator", "network", "read"]

Statistics = Literal["image", "measured"]
"""Normalise by each image's own statistics, or by those measured once on a few images."""
SHIFT = 16.0
"""Added to values that an activation must pass unchanged, and subtracted after it: what has been
through one before is not far below 0, and above 0 an activation changes nothing."""
KNOWN = {
    "d5962d1232e187cbe5540c7d9bdb4140d25d294f42d5db7149757401e2890256": "red_peppers",
    "e67e0a08e91a3f08de2abb5492b63dcfb01bfe8e80764bb5845309a4b20709c5": "authors_starry_style",
}
"""What released files were trained on, as names of the registry, by the files' SHA-256."""
BRANCH = (("1", "2"), ("5", "6"), ("8", "9"))
JOIN = (("first", "rest.0"), ("rest.3", "rest.4"), ("rest.6", "rest.7"))
"""Convolutions and normalisations of a block, as TextureNetV1 names them in a branch and a join."""


@torch.no_grad()
def network(pyramid: Pyramid, statistics: Statistics | None = None) -> TextureNetV1:
    """The same function as our network, in evaluation mode, in RGB and [0, 1].

    With the statistics of each image it has instance normalisation, which is what Torch 7's batch
    normalisation makes of one image in training mode. With measured ones it has batch
    normalisation; a pyramid of fewer scales or stages than ours then is a part of it, whose other
    layers pass on what they get.

    Args:
        pyramid: what a file holds.
        statistics: ``image`` where None and the pyramid has six scales of three stages, else
            ``measured``.

    Raises:
        UsageError: unknown statistics; those of an image for a smaller pyramid, where the layers
            that should pass on what they get would normalise it.
    """
    ratios = TextureNetV1.ratios
    whole = len(pyramid.scales) == len(ratios) and pyramid.stages == 3
    statistics = statistics or ("image" if whole else "measured")
    if statistics not in get_args(Statistics):
        raise UsageError(
            f"unknown statistics '{statistics}'; use {', '.join(get_args(Statistics))}"
        )
    if statistics == "image" and not whole:
        raise UsageError(
            f"{pyramid.file}: has {len(pyramid.scales)} scales of {pyramid.stages} convolutions, "
            "TextureNetV1 six of three: it holds them with measured statistics alone; use those"
        )
    norm: PlainNorm = "instance"
    if statistics == "measured":
        norm = "batch"
        pyramid.measure()
    net = TextureNetV1(norm, pyramid.width, pyramid.noise, pyramid.content).eval()
    state = net.state_dict()  # its tensors are the network's own
    for name, tensor in state.items():  # convolutions return 0, normalisations what they get
        scale = float(name.endswith("weight") and tensor.ndim == 1)
        tensor.fill_(1 - EPS if name.endswith("running_var") else scale)
    fill(state, pyramid, len(ratios) - len(pyramid.scales))
    return net


def fill(state: dict[str, Tensor], pyramid: Pyramid, missing: int) -> None:
    """Give the tensors of a network a pyramid, whose coarsest scale is number ``missing`` of it."""
    width = pyramid.width
    shift = 0.0 if pyramid.stages == 3 else SHIFT  # of what a block returns
    for number, scale in enumerate(pyramid.scales, start=missing):
        place(state, f"branches.{number}", BRANCH, scale.branch)
        if scale.coarse is None or scale.fine is None:
            continue
        join, channels = f"joins.{number - 1}", len(scale.coarse.scale)
        bridged = missing > 0 and number == missing + 1
        settle(state, f"{join}.coarse_norm", scale.coarse, SHIFT if bridged else shift)
        settle(state, f"{join}.fine_norm", scale.fine, shift)
        inputs = [*range(channels), *range(number * width, (number + 1) * width)]
        place(state, join, JOIN, scale.joined, inputs)
    if missing:  # the coarsest branch of the pyramid is a finer one of ours, and joins nothing
        join = f"joins.{missing - 1}"
        state[f"{join}.fine_norm.bias"] += SHIFT - shift
        for number, (convolution, _) in enumerate(JOIN):
            pass_on(state[f"{join}.{convolution}.weight"], width, 0 if number else missing * width)
    weight, bias = (part.double().flip(0) for part in pyramid.last)  # of BGR, as RGB
    mean = torch.tensor(CAFFE_MEAN_BGR, dtype=torch.float64).flip(0)
    last = f"joins.{len(TextureNetV1.ratios) - 2}.rest.9"
    state[f"{last}.weight"][:, : weight.shape[1]] = (weight / pyramid.levels).float()
    unshifted = bias + mean - shift * weight.sum((1, 2, 3))
    state[f"{last}.bias"].copy_(unshifted / pyramid.levels - 0.5)


def place(
    state: dict[str, Tensor],
    name: str,
    block: Sequence[tuple[str, str]],
    stages: Sequence[Stage],
    inputs: Sequence[int] = (),
) -> None:
    """Give a block its stages, of some inputs; where they are two, the third adds ``SHIFT``."""
    for number, (convolution, norm) in enumerate(block):
        weight = state[f"{name}.{convolution}.weight"]
        if number == len(stages):
            pass_on(weight, len(stages[0].bias))
            state[f"{name}.{norm}.bias"] += SHIFT
            continue
        stage = stages[number]
        outputs, given = stage.weight.shape[:2]
        weight[:outputs, list(inputs) if inputs and not number else slice(given)] = stage.weight
        state[f"{name}.{convolution}.bias"][:outputs] = stage.bias
        settle(state, f"{name}.{norm}", stage.norm)


def pass_on(weight: Tensor, channels: int, first: int = 0) -> None:
    """Have a convolution return its ``channels`` inputs from number ``first`` on as they are."""
    middle = weight.shape[-1] // 2
    for channel in range(channels):
        weight[channel, first + channel, middle, middle] = 1


def settle(state: dict[str, Tensor], name: str, given: Norm, shift: float = 0.0) -> None:
    """Give a normalisation its first channels, whose input has ``shift`` added."""
    parts = {"weight": given.scale, "bias": given.bias}
    if f"{name}.running_mean" in state:
        parts |= {"running_mean": given.mean + shift, "running_var": given.variance}
    for part, values in parts.items():
        state[f"{name}.{part}"][: len(values)] = values


def import_generator(
    path: Path,
    exemplar: str | None = None,
    normalisation: Rule = "overrun",
    statistics: Statistics | None = None,
) -> tuple[TextureNetV1, config.Training]:
    """A released generator as a network of ours in evaluation mode, and a run that describes it.

    Of the run the file says the network alone; objective and optimiser are the defaults of the
    authors' v1 branch, and nothing says that they were used.

    Args:
        path: the Torch 7 file.
        exemplar: the image that it was trained on, a name or a file; None for what a known file was
            trained on, else the file's own name without its ending.
        normalisation: scale and bias that a normalisation lacks.
        statistics: what it normalises by; None for each image's own, where TextureNetV1 can.

    Raises:
        UsageError: an unknown rule; statistics that the network cannot have.
        MissingError, DataError: no such file; damaged; another network.
    """
    pyramid = Pyramid(path, normalisation)
    net = network(pyramid, statistics)
    return net, described(pyramid, net, exemplar, path.stem)


def described(
    pyramid: Pyramid, net: TextureNetV1, exemplar: str | None, name: str
) -> config.Training:
    """The run of :func:`import_generator`, named after ``name``."""
    file, content = pyramid.file, pyramid.content
    exemplar = exemplar or KNOWN.get(sha256(file), re.sub(r"_(model|style)$", "", file.stem))
    norm: PlainNorm = "instance" if next(net.buffers(), None) is None else "batch"
    return config.Training(
        name=re.sub("[^A-Za-z0-9]+", "_", name).strip("_") or "generator",
        seed=0,
        descriptor=config.Descriptor("vgg19"),
        generator=config.TextureNetV1("texturenet_v1", norm, pyramid.width, pyramid.noise),
        objective=config.Objective(
            style_layers=("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
            style_weight=1e3 if content else 1.0,
            content_weight=0.6 if content else 0.0,
            normalise_gradients=True,
        ),
        optimiser=config.Optimiser(3000 if content else 1500, 4 if content else 16, 0.1, 0.8, 300),
        images=config.Images(style=exemplar) if content else config.Texture(exemplar),
    )


def located(source: str) -> Path:
    """The file that a path, or a name of the registry that was fetched, stands for.

    Raises:
        UsageError, MissingError, DataError: a name of something else; not fetched; damaged.
    """
    if source not in registry.registered():
        return Path(source)
    if not registry.entries_of(source)[0].file.endswith(".t7"):
        raise UsageError(f"'{source}' is fetched, but is no Torch 7 file; name one (.t7)")
    return registry.image(source)


def convert(
    source: str,
    out: Path,
    exemplar: str | None = None,
    normalisation: Rule = "overrun",
    statistics: Statistics | None = None,
) -> list[str]:
    """Write a generator for ``texnet sample`` or ``texnet stylize``; returns what there is to say.

    Args:
        source: a file, or a name of the registry that was fetched.
        out: the safetensors file to write, of the format of ``texnet train``; its metadata name the
            source with its SHA-256, and the rules.
        exemplar, normalisation, statistics: as for :func:`import_generator`.

    Raises:
        UsageError, MissingError, DataError: as there; ``exemplar`` or ``source`` is the name of
            something else.
        WriteError: ``out`` cannot be written.
    """
    check_writable(out)
    if exemplar is not None:
        registry.check_images([exemplar])
    path = located(source)
    pyramid = Pyramid(path, normalisation)
    net = network(pyramid, statistics)
    run = described(pyramid, net, exemplar, Path(source).stem)
    by = "image" if run.generator.norm == "instance" else "measured"
    metadata = {
        "format": GENERATOR,
        "run": json.dumps(config.to_json(run)),
        "torch": torch.__version__,
        "imported_from": path.name,
        "imported_sha256": sha256(path),
        "normalisation": normalisation,
        "statistics": by,
    }
    write_tensors(out, net.state_dict(), metadata)
    kind, verb = ("stylization", "stylize") if pyramid.content else ("texture", "sample")
    images = f"{len(registry.PHOTOS)} photographs" if pyramid.content else f"{MEASURED} samples"
    measured = "each image" if by == "image" else images
    return [
        f"{path}: a {kind} pyramid, {len(pyramid.scales)} scales of {pyramid.stages} convolutions, "
        f"{pyramid.parameters} parameters",
        f"normalised by the statistics of {measured}; scale and bias of {pyramid.missing} channels "
        f"that have none: {normalisation}",
        f"{out}: written; texnet {verb} takes it",
    ]
