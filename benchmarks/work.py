"""What one process of benchmarks/measure.py computes: seconds, memory and the first loss.

Run by it as ``python -m benchmarks.work '{"case": {"workload": "train-v1", ...}, ...}'``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from torch import Tensor, nn

from benchmarks import plain
from benchmarks.measure import DIRECT, PLAIN, ROOT, Case
from texnet import (
    baselines,
    config,
    descriptors,
    experiment,
    generators,
    kernels,
    runtime,
    strips,
)
from texnet.config import Acceleration
from texnet.documents import read_yaml
from texnet.generators import Network
from texnet.inputs import Inputs, NoiseStream
from texnet.losses import Objective
from texnet.memory import MIB
from texnet.networks import StyleNet, TextureNetV1, TextureNetV2
from texnet.textures import V1_OBJECTIVE
from texnet.training import objective_of
from texnet.updates import Update, optimiser
from texnet.validation import parse
from texnet.winograd import Conv3x3

NETWORKS: dict[str, StyleNet | TextureNetV1 | TextureNetV2] = {
    "StyleNet": StyleNet(),
    "TextureNetV1": TextureNetV1("texturenet_v1"),
    "TextureNetV2": TextureNetV2("texturenet_v2"),
}
GATYS = config.Objective(
    style_layers=("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"),
    content_layers=("relu4_2",),
)
WARM_UP = 2
PATIENCE = 600
"""Seconds that processes wait for each other."""
EVALUATIONS = 5
"""Of an optimisation, which is one repetition."""
HISTORY = 100
"""Corrections that L-BFGS keeps in neural-style-pt."""

Work = Callable[[], tuple[Tensor, int]]
"""One repetition: the loss, or the image that it makes, and of how many units it is."""


def layers(module: nn.Module) -> list[nn.Module]:
    """The modules that have parameters, in their order."""
    return [part for part in module.modules() if list(part.parameters(recurse=False))]


def pairs(net: Network, other: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """The layers of a network and those of its counterpart in benchmarks/plain.py."""
    mine, theirs = layers(net), layers(other)
    if isinstance(net, generators.TextureNetV1) and isinstance(other, plain.TextureNetV1):
        mine, theirs = layers(net.branches), layers(other.branches)
        joins = (net.joins, other.coarse_norms, other.fine_norms, other.joined)
        for join, *parts in zip(*joins, strict=True):
            mine += layers(join)
            theirs += [layer for part in parts for layer in layers(part)]
        theirs.append(other.last)
    return list(zip(mine, theirs, strict=True))


def counterpart(net: Network, settings: config.Generator) -> nn.Module:
    """The plain network with the same weights."""
    other: nn.Module
    if isinstance(settings, TextureNetV1):
        other = plain.TextureNetV1(settings.norm, settings.width, settings.noise_channels)
    elif isinstance(settings, StyleNet):
        other = plain.StyleNet(settings.norm, settings.width, settings.blocks, settings.upsampling)
    else:
        raise ValueError(f"there is no plain {settings.name}")
    for mine, theirs in pairs(net, other):
        theirs.load_state_dict(mine.state_dict())
    return other


def plain_objective(
    settings: config.Objective, descriptor: descriptors.Descriptor, style: Tensor
) -> plain.Objective:
    """The plain objective with the same layers and weights."""
    contents = settings.content_layers if settings.content_weight else ()
    weights = settings.style_weight, settings.content_weight
    return plain.Objective(
        descriptor.convolutions, style, settings.style_layers, contents, weights, descriptor.pool,
        settings.normalise_gradients,
    )  # fmt: skip


def untrained(settings: config.Objective, way: str, tiny: bool) -> descriptors.Descriptor:
    """VGG-19, a narrow one in tests, with random weights: time does not depend on them."""
    wanted = {*settings.style_layers, *(settings.content_layers if settings.content_weight else ())}
    widths = descriptors.WIDTHS["vgg19_lite" if tiny else "vgg19"]
    made = descriptors.Descriptor(widths, wanted, winograd=way not in (*PLAIN, DIRECT))
    descriptors.initialise(made, torch.Generator().manual_seed(0))
    return made.eval()


def images(case: Case, count: int) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, case.size, case.size, generator=rng)


def acceleration(way: str) -> Acceleration:
    """How a way of ours computes."""
    precision, _, rest = way.partition(", ")
    part = int(rest.removeprefix("part ")) if rest.startswith("part") else None
    given = {"precision": precision, "channels_last": rest != "contiguous", "part": part}
    return parse(Acceleration, given, way)


class Setting(NamedTuple):
    """What a training step needs, in whatever way it is computed."""

    generator: config.Generator
    net: Network
    objective: config.Objective
    descriptor: descriptors.Descriptor
    style: Tensor
    content: Tensor | None
    noise: list[Tensor]
    lr: float


def untrained_setting(case: Case, tiny: bool) -> Setting:
    """The paper's networks on random images."""
    settings, size = NETWORKS[case.network], case.size
    stylizes = isinstance(settings, StyleNet)
    shown = config.Images(size=size) if stylizes else config.Texture("berries", size, size)
    net = generators.build(settings, 0, shown)
    objective = config.Objective() if stylizes else V1_OBJECTIVE
    style, *content = images(case, 1 + case.batch * stylizes)
    noise = NoiseStream(net, 0)(case.batch, size, size, 1)
    given = torch.stack(content) if stylizes else None
    descriptor = untrained(objective, case.way, tiny)
    return Setting(settings, net, objective, descriptor, style, given, noise, 1e-3)


def embedded_setting(case: Case) -> Setting:
    """A step of the embedded scale, with its photographs, its style and its descriptor."""
    path = ROOT / "config" / "config.yaml"
    made = parse(experiment.Experiment, read_yaml(path), str(path)).training("stylenet_in", 0)
    shown = dataclasses.replace(made.images, size=case.size)
    batch = dataclasses.replace(made.optimiser, batch=case.batch)
    run = dataclasses.replace(made, images=shown, optimiser=batch)
    device = torch.device("cpu")
    net = generators.build(run.generator, run.seed, run.images)
    content, noise = Inputs(run, net, device)(1)
    descriptor = objective_of(run, device).descriptor
    style = baselines.style_image(*run.images.reference)
    lr = run.optimiser.lr
    return Setting(run.generator, net, run.objective, descriptor, style, content, noise, lr)


def training(case: Case, tiny: bool) -> Work:
    """One step."""
    embedded = case.workload == "train-embedded"
    given = embedded_setting(case) if embedded else untrained_setting(case, tiny)
    content, noise = given.content, given.noise
    if case.way in PLAIN:
        net = counterpart(given.net, given.generator)
        step = plain.step_of(
            net, plain_objective(given.objective, given.descriptor, given.style), given.lr
        )
        return lambda: (step(content, noise), 1)
    how = acceleration(case.way)
    descriptor = kernels.channels_last(given.descriptor)
    objective = Objective(given.objective, descriptor, given.style)
    objective = objective.rounded() if how.precision == "bf16" else objective
    update = Update(given.net, objective, optimiser(given.net, given.lr, how), how)
    return lambda: (update(content, noise)[0], 1)


def optimising(case: Case, tiny: bool) -> Work:
    """Evaluations of the objective and its gradient by L-BFGS, from noise."""
    content, style = images(case, 2)
    start = baselines.noise_image((case.size, case.size), 0)
    descriptor = untrained(GATYS, case.way, tiny)
    if case.way not in PLAIN:
        descriptor = kernels.channels_last(descriptor)
        objective = Objective(GATYS, descriptor, style)
        objective = objective.rounded() if case.way == "bf16" else objective
        return ours_optimising(objective, start, content)
    plainly = plain_objective(GATYS, descriptor, style)
    targets = plainly.content_targets(content[None])

    def work() -> tuple[Tensor, int]:
        pixels, seen = start[None].clone().requires_grad_(True), []
        solver = torch.optim.LBFGS(
            [pixels],
            lr=1,
            max_iter=EVALUATIONS,
            history_size=HISTORY,
            tolerance_grad=-1,
            tolerance_change=-1,
        )

        def closure() -> Tensor:
            solver.zero_grad()
            loss = plainly(pixels, targets)
            loss.backward()
            seen.append(loss.detach())
            return loss

        solver.step(closure)
        return seen[0], len(seen)

    return work


def ours_optimising(objective: Objective, start: Tensor, content: Tensor) -> Work:
    baselines.HISTORY = HISTORY
    targets = objective.content_targets(content[None])
    calls: list[None] = []
    objective.register_forward_hook(lambda *_: calls.append(None))

    def work() -> tuple[Tensor, int]:
        calls.clear()
        made = baselines.optimise(objective, start, targets, EVALUATIONS)
        return torch.tensor(made.trace[0][0]), len(calls)  # the line search may overrun the budget

    return work


def stylizing(case: Case, tiny: bool) -> Work:
    """One image through the paper's StyleNet."""
    settings = NETWORKS["StyleNet"]
    ours = generators.StyleNet().eval().requires_grad_(False)
    content = images(case, 1)
    generators.initialise(ours, 0)
    net: nn.Module = ours
    if case.way in PLAIN:
        net = counterpart(ours, settings).eval()
    for module in ours.modules():
        if isinstance(module, Conv3x3):
            module.winograd = case.way != DIRECT
    if case.way not in (*PLAIN, "strips"):
        net, content = kernels.channels_last(ours), content.contiguous(memory_format=kernels.LAST)
    bf16 = case.way == "bf16"

    @torch.no_grad()
    def work() -> tuple[Tensor, int]:
        if case.way == "strips":
            return strips.stylize(ours, content), 1
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return net(content), 1

    return work


WORKS: dict[str, Callable[[Case, bool], Work]] = {"optimise": optimising, "stylize": stylizing}


def value(made: Tensor) -> float:
    """The loss; of an image its standard deviation, which says whether it is the same."""
    return made.item() if made.ndim == 0 else made.float().std().item()


def meet(folder: str, count: int) -> None:
    """Wait until as many processes have come here."""
    Path(folder, str(os.getpid())).touch()
    deadline = time.monotonic() + PATIENCE
    while len(os.listdir(folder)) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"fewer than {count} processes are ready after {PATIENCE} seconds")
        time.sleep(0.01)


def measure(
    case: Case, repetitions: int, tiny: bool, together: tuple[str, int] | None = None
) -> dict[str, Any]:
    """Seconds of each repetition after the first two, memory in MiB, and the first loss.

    Repetitions begin when so many processes are ready, which they say in a folder: ``together``.
    """
    imported = psutil.Process().memory_info().rss / MIB
    if case.way in PLAIN:  # as PyTorch is without us: the allocator, too
        torch.set_num_threads(case.threads)
    else:
        precision = "bf16" if case.way.startswith("bf16") else "fp32"
        runtime.prepare("cpu", case.threads, precision, lean="part" in case.way)
    work = WORKS.get(case.workload, training)(case, tiny)
    if not repetitions:
        return {"gflop": operations(work)}
    loss = value(work()[0])
    for _ in range(WARM_UP - 1):
        work()
    if together:
        meet(*together)
    seconds = []
    for _ in range(repetitions):
        started = time.perf_counter()
        _, units = work()
        seconds.append((time.perf_counter() - started) / units)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": seconds, "loss": loss, "peak_rss_mib": peak, "import_rss_mib": imported,
    }  # fmt: skip


def operations(work: Work) -> float:
    """Operations of one unit, in 1e9."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        _, units = work()
    return counter.get_total_flops() / units / 1e9


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(measure(**given | {"case": Case(**given["case"])})))
