"""Time and memory of trained generators, of optimisation, and of the paper's own networks."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Annotated, TypeVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from texnet import config, descriptors, fields, generators, kernels
from texnet.artifacts import read_json
from texnet.baselines import noise_image, optimise
from texnet.data import load_image, square, style_image
from texnet.errors import DataError, UsageError
from texnet.inputs import NoiseStream, heldout_images
from texnet.losses import Objective
from texnet.memory import MIB, peak_memory
from texnet.tables import Row
from texnet.textures import label_of
from texnet.training import load_generator, objective_of
from texnet.validation import parse

RUN = "speed"
Sizes = Annotated[tuple[fields.Pixels, ...], Field(min_length=1)]
Made = TypeVar("Made")
Work = Callable[[], object]
Works = dict[tuple[str, str, int], Work]
"""What is measured, by (metric, style, side)."""


@dataclass(frozen=True, config=fields.STRICT)
class Settings:
    """What is measured; paths are relative to the current folder."""

    device: fields.Device
    threads: fields.Positive
    """CPU threads."""
    repetitions: fields.Positive
    """Times that a time is measured."""
    sizes: Sizes
    """Sides of the square images."""
    models: dict[str, Path]
    """Stylization models by role; ``instance`` is the one that optimisation is held against."""
    gatys: Path
    """run.json of the optimisation."""
    paper_sizes: Sizes
    """Sides for the paper's own networks."""


def read_settings(path: Path) -> Settings:
    """The settings of ``texnet speed``.

    Raises:
        MissingError, DataError, UsageError: no such file; a key is missing; a value is wrong.
    """
    content = read_json(path)
    if missing := [key for key in Settings.__annotations__ if key not in content]:
        raise DataError(f"{path}: has no key '{missing[0]}'; texnet speed needs it")
    settings = parse(Settings, content, str(path))
    if "instance" not in settings.models:
        raise DataError(f"{path}: has no key 'models.instance'; optimisation is held against it")
    return settings


class Model:
    """A trained stylization network on its first held-out image."""

    def __init__(self, path: Path, device: torch.device) -> None:
        self.net, run = load_generator(path)
        if not isinstance(run.images, config.Images):
            raise UsageError(f"{path}: makes textures; name a model that stylizes images")
        self.net.to(device)
        self.style, self.device = label_of(run.images.style), device
        self.photo = load_image(run.images.heldout[0])
        self.noise = NoiseStream(self.net, run.seed)

    @torch.no_grad()
    def __call__(self, content: Tensor, noise: list[Tensor]) -> Tensor:
        return self.net(content, noise)

    def noise_for(self, content: Tensor) -> list[Tensor]:
        """What the network takes besides ``content``, (1, 3, H, W)."""
        height, width = content.shape[-2:]
        return [z.to(self.device) for z in self.noise(1, height, width, 0)]

    def work(self, side: int) -> Work:
        """One pass at a size; what it is given is made beforehand."""
        content = square(self.photo, side)[None].to(self.device)
        return functools.partial(self, content, self.noise_for(content))


def measure(settings: Settings, device: torch.device) -> list[Row]:
    """Every row of the table; the seed is the number of the repetition.

    Everything is loaded first, so that what is missing is told before anything is measured.
    """
    gatys = config.read_run(settings.gatys)
    if not isinstance(gatys, config.Optimisation) or not isinstance(gatys.images, config.Images):
        raise DataError(f"{settings.gatys}: is no optimisation of stylized images; name such a run")
    objective = objective_of(gatys, device)
    models = {role: Model(path, device) for role, path in settings.models.items()}
    sizes, paper_sizes = sorted(set(settings.sizes)), sorted(set(settings.paper_sizes))

    style, photo = label_of(gatys.images.style), load_image(gatys.images.heldout[0])
    passes = {
        (f"forward_{role}", model.style, side): model.work(side)
        for side in sizes
        for role, model in models.items()
    }
    evaluations = {
        ("evaluation", style, side): evaluation(objective, square(photo, side).to(device))
        for side in sizes
        if side <= config.LARGEST_EVALUATION
    }
    rows = [*rows_of(passes, settings.repetitions, device)]
    rows += rows_of(evaluations, settings.repetitions, device)
    rows += optimisation_rows(gatys, objective, models["instance"], settings.repetitions)
    del objective, models, passes, evaluations
    works = paper_works(gatys, {side: square(photo, side).to(device) for side in paper_sizes})
    return [*rows, *rows_of(works, settings.repetitions, device)]


def rows_of(works: Works, repetitions: int, device: torch.device) -> Iterator[Row]:
    """Memory and time of each work.

    A pass before the counted one makes what is kept from pass to pass: transformed kernels, the
    libraries' own workspaces. The repetitions are outermost, so that a machine that becomes slower
    or busier does so for all.
    """
    for (metric, style, side), work in works.items():
        work()
        if device.type == "mps":  # which counts none
            continue
        found = peak_memory(work, device) / MIB
        yield Row(RUN, style, 0, f"{side}px", f"memory_{metric}", found, "MiB")
    for repetition in range(repetitions):
        for (metric, style, side), work in works.items():
            yield Row(RUN, style, repetition, f"{side}px", metric, seconds(work, device), "s")


def timed(work: Callable[[], Made], device: torch.device) -> tuple[Made, float]:
    """What ``work()`` gives, and its wall time, to the end of what it started on the device."""
    synchronise(device)
    started = time.perf_counter()
    made = work()
    synchronise(device)
    return made, time.perf_counter() - started


def seconds(work: Work, device: torch.device) -> float:
    """Wall time of ``work()``."""
    return timed(work, device)[1]


def synchronise(device: torch.device) -> None:
    """Wait for what was started on an accelerator."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def evaluation(objective: Objective, image: Tensor) -> Work:
    """One evaluation of the objective and its gradient at an image (3, H, W), its own content."""
    targets = objective.content_targets(image[None])

    def work() -> Tensor:
        pixels = image[None].clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(objective(pixels, targets).total.sum(), pixels)
        return gradient

    return work


def optimisation_rows(
    run: config.Optimisation, objective: Objective, model: Model, repetitions: int
) -> Iterator[Row]:
    """For every held-out image: the time of the optimisation, and until it is as good as the model.

    The unit of that time is an evaluation, the optimisation's whole time over its number.
    """
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    counter = objective.register_forward_hook(count)
    images = config.stylization(run)
    contents = heldout_images(images).to(model.device)
    for number, (name, content) in enumerate(zip(images.heldout, contents, strict=True)):
        targets = objective.content_targets(content[None])
        work = functools.partial(model, content[None], model.noise_for(content[None]))
        with torch.no_grad():  # this pass warms up
            wanted = objective(work(), targets, diversity=False).total.item()
        sample = median(seconds(work, model.device) for _ in range(repetitions))
        start = noise_image(tuple(content.shape[-2:]), run.seed * 1000 + number).to(model.device)
        calls = 0
        optimisation = functools.partial(optimise, objective, start, targets, run.evaluations)
        made, spent = timed(optimisation, model.device)
        equal = next((n for n, terms in enumerate(made.trace, 1) if terms[0] <= wanted), None)
        # The line search may overrun the budget: those evaluations took time too.
        found = {
            ("sample", "s"): sample,
            ("optimisation", "s"): spent,
            ("evaluations", "evaluations"): calls,
        }
        if equal is not None:
            found["optimisation_to_equal", "s"] = equal * spent / calls
            found["evaluations_to_equal", "evaluations"] = equal
        for (metric, unit), value in found.items():
            yield Row(RUN, label_of(images.style), 0, name, metric, float(value), unit)
    counter.remove()


def paper_works(run: config.Optimisation, images: Mapping[int, Tensor]) -> Works:
    """The paper's generator and VGG-19, untrained, on images (3, H, W) by their side.

    Neither time nor memory depends on the values of the weights, so that VGG-19's, which are not in
    the repository, are not needed.
    """
    device = next(iter(images.values())).device
    net = generators.StyleNet()
    generators.initialise(net, 0)
    net.to(device).eval().requires_grad_(False)
    settings = config.Objective()
    layers = {*settings.style_layers, *settings.content_layers}
    descriptor = descriptors.Descriptor(descriptors.WIDTHS["vgg19"], layers, pool="max")
    descriptors.initialise(descriptor, torch.Generator().manual_seed(0))
    kernels.channels_last(descriptor.eval().to(device))
    objective = Objective(settings, descriptor, style_image(*run.images.reference).to(device))
    forward, style = torch.no_grad()(net.forward), label_of(run.images.reference[0])
    works: Works = {}
    for side, image in images.items():
        works["forward_paper", style, side] = functools.partial(forward, image[None])
        works["evaluation_paper", style, side] = evaluation(objective, image)
    return works
