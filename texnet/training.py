"""Training a generator: the whole loop on one screen, resumable, its data order in the seed."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from texnet import config, descriptors, generators
from texnet.artifacts import read_tensors, write_bytes, write_tensors
from texnet.data import ContentCrops, load_image, square, style_image, write_image_grid
from texnet.errors import DataError, DivergenceError
from texnet.losses import Objective
from texnet.sources import digest
from texnet.tables import write_table

FORMAT = "texnet-generator-1"
NOISE_STREAM = 2**62  # keeps the noise's keys apart from those of the content crops
COLUMNS = ("iteration", "seconds", "loss", "texture", "content", "tv", "heldout")


@dataclass(frozen=True)
class Step:
    """What a progress display is told after each iteration."""

    iteration: int
    loss: Tensor
    """Training objective of this iteration's batch, a scalar on the run's device."""


def objective_of(run: config.Training | config.Optimisation, device: torch.device) -> Objective:
    """The objective of a run: its descriptor, its weights, its style exemplar."""
    settings = run.descriptor
    descriptor = descriptors.load(
        settings.name,
        {*run.objective.style_layers, *run.objective.content_layers},
        pool=settings.pool,
        weights=Path(settings.weights) if settings.weights else None,
        checksum=settings.sha256,
    ).to(device, memory_format=torch.channels_last)
    style = style_image(run.images.style, run.images.style_size).to(device)
    return Objective(run.objective, descriptor, style)


def heldout_images(images: config.Images) -> Tensor:
    """The central squares of the held-out content images: (B, 3, heldout_size, heldout_size)."""
    return torch.stack([square(load_image(name), images.heldout_size) for name in images.heldout])


def train(
    run: config.Training,
    out: Path,
    device: torch.device,
    on_step: Callable[[Step], None] = lambda step: None,
) -> None:
    """Train ``run`` and write ``out`` (safetensors), ``history.csv`` and ``samples.png`` beside it.

    An interrupted training goes on from its last checkpoint, a side file named after all that the
    training depends on. Batch ``i`` depends on the seed and ``i`` alone: every generator sees the
    same data.

    Raises:
        DivergenceError: a term is not finite; the last checkpoint before it is kept.
    """
    objective = objective_of(run, device)
    net = generators.build(run.generator, run.seed).to(device)
    adam = torch.optim.Adam(net.parameters(), lr=run.optimiser.lr)
    schedule = torch.optim.lr_scheduler.StepLR(adam, run.optimiser.decay_every, run.optimiser.decay)
    contents = [load_image(name) for name in run.images.contents]
    crops = ContentCrops(
        contents, run.images.size, run.optimiser.batch, run.seed, run.images.crop_scale
    )
    noise = NoiseStream(run.generator.noise_channels, run.seed)
    heldout = heldout_images(run.images).to(device)
    heldout_targets = objective.content_targets(heldout)

    # Another run, other code or other pictures and weights than those of a checkpoint start afresh.
    made_of = fingerprint(*contents, heldout, *objective.buffers(), *objective.parameters())
    name = f"checkpoint-{config.digest(run)}-{digest('training')}-{made_of}.pt"
    checkpoint = out.parent / name
    state = {"net": net, "adam": adam, "schedule": schedule}
    first, rows = restore(checkpoint, state, device)
    pending, started = [], time.perf_counter() - (rows[-1][1] if rows else 0.0)
    for iteration in range(first, run.optimiser.iterations + 1):
        batch = crops(iteration).to(device)
        images = net.train()(batch, noise(batch, iteration))
        terms = objective(images, objective.content_targets(batch))
        loss = terms.total.mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        schedule.step()

        values = torch.stack([loss, *(t.mean() for t in (terms.texture, terms.content, terms.tv))])
        pending.append((iteration, time.perf_counter() - started, values.detach()))
        on_step(Step(iteration, loss.detach()))
        last = iteration == run.optimiser.iterations
        if last or iteration % run.heldout_every == 0:
            rows += finite(pending, checkpoint)
            with torch.no_grad():
                shown = net.eval()(heldout, noise(heldout, 0))
                rows[-1][-1] = float(objective(shown, heldout_targets).total.mean())
            pending.clear()
        if last or iteration % run.checkpoint_every == 0:
            rows += finite(pending, checkpoint)
            pending.clear()
            save_checkpoint(checkpoint, state, iteration, rows)

    write_table(out.parent / "history.csv", COLUMNS, rows)
    with torch.no_grad():
        write_image_grid(out.parent / "samples.png", net.eval()(heldout, noise(heldout, 0)))
    save_generator(out, net, run, final_objective=rows[-1][2])
    checkpoint.unlink(missing_ok=True)


class NoiseStream:
    """U(0, 1) noise for a batch as a function of (seed, iteration); None without noise channels."""

    def __init__(self, channels: int, seed: int) -> None:
        self.channels, self.seed = channels, seed

    def __call__(self, content: Tensor, iteration: int) -> Tensor | None:
        if not self.channels:
            return None
        rng = np.random.Generator(np.random.Philox(key=[self.seed, NOISE_STREAM + iteration]))
        shape = (len(content), self.channels, *content.shape[-2:])
        return torch.from_numpy(rng.random(shape, dtype=np.float32)).to(content.device)


def finite(pending: list[tuple[int, float, Tensor]], checkpoint: Path) -> list[list]:
    """History rows of the pending iterations; read from the device only here."""
    rows = []
    for iteration, seconds, values in pending:
        numbers = values.tolist()
        for name, number in zip(COLUMNS[3:6], numbers[1:], strict=True):
            if not abs(number) < float("inf"):
                kept = f"{checkpoint} holds the last good state" if checkpoint.exists() else "none"
                raise DivergenceError(
                    f"iteration {iteration}: the {name} term is {number}; checkpoint: {kept}; "
                    "lower optimiser.lr or the term's weight"
                )
        rows.append([iteration, seconds, *numbers, None])
    return rows


def fingerprint(*tensors: Tensor) -> str:
    """Eight hexadecimal digits that identify the values of some tensors."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:8]


def save_checkpoint(path: Path, state: dict, iteration: int, rows: list[list]) -> None:
    """Everything that the next iteration depends on, atomically."""
    content = {name: part.state_dict() for name, part in state.items()}
    buffer = io.BytesIO()
    torch.save({**content, "iteration": iteration, "rows": rows}, buffer)
    write_bytes(path, buffer.getvalue())


def restore(path: Path, state: dict, device: torch.device) -> tuple[int, list[list]]:
    """Load a checkpoint if there is one: the next iteration and the history so far."""
    if not path.exists():
        return 1, []
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        for name, part in state.items():
            part.load_state_dict(content[name])
        return content["iteration"] + 1, content["rows"]
    except Exception as error:  # torch raises half a dozen types for a damaged file
        raise DataError(
            f"{path}: damaged checkpoint ({type(error).__name__}); delete it to start afresh"
        ) from error


def save_generator(path: Path, net: nn.Module, run: config.Training, **facts: float) -> None:
    """Write a trained generator with its whole run in the metadata."""
    metadata = {
        "format": FORMAT,
        "run": json.dumps(config.to_json(run)),
        "torch": torch.__version__,
        **{name: f"{value:.9g}" for name, value in facts.items()},
    }
    write_tensors(path, net.state_dict(), metadata)


def load_generator(path: Path) -> tuple[generators.StyleNet, config.Training]:
    """A trained generator in evaluation mode, and its run.

    Raises:
        MissingError, DataError: no such file; damaged; not a generator of this project.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise DataError(
            f"{path}: format is '{metadata.get('format')}', wanted '{FORMAT}'; "
            "this is not a generator made by texnet train"
        )
    try:
        described = json.loads(metadata["run"])
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: its metadata describe no run; restore the file") from error
    run = config.parse(config.Training, described, str(path))
    net = generators.build(run.generator, run.seed)
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataError(f"{path}: weights do not fit their own metadata; restore it") from error
    return net.eval(), run
