"""Training a generator: the whole loop on one screen, resumable, its data order in the seed."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from texnet import config, descriptors, generators, kernels
from texnet.artifacts import GENERATOR as FORMAT
from texnet.artifacts import read_tensors, write_tensors
from texnet.checkpoints import Checkpoint
from texnet.data import style_image, write_image_grid
from texnet.errors import DataError, DivergenceError, UnfinishedError
from texnet.inputs import Inputs
from texnet.losses import Objective
from texnet.sources import digest
from texnet.tables import write_table
from texnet.updates import TERMS, Update, optimiser
from texnet.validation import difference

SAMPLES = "samples.png"
FLAT = 0.5 / 255
COLUMNS = ("iteration", "seconds", "loss", *TERMS, "heldout")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """What a progress display is told after each iteration."""

    iteration: int
    loss: Tensor
    """Training objective of this iteration's batch, a scalar on the run's device."""


def objective_of(run: config.Training | config.Optimisation, device: torch.device) -> Objective:
    """The objective of a run: its descriptor, its weights, its style exemplar; in float32."""
    settings, wanted = run.descriptor, run.objective
    layers = {*wanted.style_layers, *(wanted.content_layers if wanted.content_weight else ())}
    descriptor = descriptors.load(
        settings.name,
        layers,
        pool=settings.pool,
        weights=config.weights_file(settings),
        checksum=settings.sha256,
        winograd=settings.winograd,
    )
    descriptor = kernels.channels_last(descriptor.to(device))
    style = style_image(*run.images.reference).to(device)
    if float(style.std((1, 2)).max()) < FLAT:
        raise DataError(
            f"exemplar '{run.images.reference[0]}' is flat (no pixel differs from the mean by a "
            "grey level): it has no texture; use another image"
        )
    return Objective(run.objective, descriptor, style)


def train(
    run: config.Training,
    out: Path,
    device: torch.device,
    on_step: Callable[[Step], None] = lambda step: None,
    stopped: Callable[[], str | None] = lambda: None,
    on_heldout: Callable[[int, Tensor], None] = lambda iteration, images: None,
) -> None:
    """Train ``run`` and write ``out`` (safetensors), ``history.csv`` and ``samples.png`` beside it.

    An interrupted training goes on from its last checkpoint, and ends in the bits in which it would
    have ended. Batch ``i`` depends on the seed and ``i`` alone: the iteration is the only state of
    the data, and every generator sees the same.

    Args:
        run: what to train, and how.
        out: the model to write.
        device: where to compute.
        on_step: is told of every iteration.
        stopped: is asked after every iteration whether to stop there, and why.
        on_heldout: is shown what the generator makes of the held-out inputs, (B, 3, H, W), with
            the iteration, whenever that is measured.

    Raises:
        DivergenceError: a term is not finite; the last checkpoint before it is kept.
        UnfinishedError: stopped as asked, after a checkpoint.
        DataError: the checkpoints of this run are all damaged.
    """
    measure = objective_of(run, device)
    objective = measure.rounded() if run.acceleration.precision == "bf16" else measure
    net = generators.build(run.generator, run.seed, run.images).to(device)
    adam = optimiser(net, run.optimiser.lr, run.acceleration)
    schedule = torch.optim.lr_scheduler.StepLR(adam, run.optimiser.decay_every, run.optimiser.decay)
    inputs = Inputs(run, net, device)
    heldout = inputs.heldout
    heldout_targets = measure.content_targets(heldout[0])

    # Another run, other code or other pictures and weights than those of a checkpoint start afresh.
    exemplar = style_image(*run.images.reference)
    shown = fingerprint(exemplar, *inputs.sources, *measure.descriptor.parameters())
    made_of = {"run": config.to_json(run), "code": digest("training"), "images": shown}
    checkpoint = Checkpoint(out.parent, made_of, device)
    state = {"net": net, "adam": adam, "schedule": schedule}
    first, rows = resumed(checkpoint, state)
    copies = objective.diversity_of_copies(run.optimiser.batch)
    update = Update(net, objective, adam, run.acceleration)
    iterations = range(first, run.optimiser.iterations + 1)
    batches = inputs.batches(iterations, run.acceleration.loaders)
    pending, started = [], time.perf_counter() - (rows[-1][1] if rows else 0.0)
    for iteration, (content, noise) in zip(iterations, batches, strict=True):
        values = update(content, noise)
        schedule.step()
        pending.append((iteration, time.perf_counter() - started, values))
        on_step(Step(iteration, values[0]))
        last = iteration == run.optimiser.iterations
        if last or iteration % run.heldout_every == 0:
            rows += logged(pending, checkpoint.path, copies)
            with torch.no_grad():
                shown = net.eval()(*heldout)
                measured = measure(shown, heldout_targets, diversity=False)
                rows[-1][-1] = float(measured.total.mean())
            on_heldout(iteration, shown)
            pending.clear()
        stop = stopped()
        if last or stop or iteration % run.checkpoint_every == 0:
            rows += logged(pending, checkpoint.path, copies)
            pending.clear()
            parts = {name: part.state_dict() for name, part in state.items()}
            checkpoint.save({**parts, "iteration": iteration, "rows": rows})
        if stop and not last:
            raise UnfinishedError(
                f"stopped by {stop} after iteration {iteration} of {run.optimiser.iterations}, "
                f"which {checkpoint.path} holds; the same command, given again, goes on from there"
            )

    write_table(out.parent / "history.csv", COLUMNS, rows)
    with torch.no_grad():
        # Frozen, as whoever loads it has it.
        write_image_grid(out.parent / SAMPLES, net.eval().requires_grad_(False)(*heldout))
    save_generator(out, net, run, final_objective=rows[-1][2])
    checkpoint.remove()


def show_samples(model: Path, device: torch.device) -> None:
    """Write ``samples.png`` beside a trained generator, as its training writes it."""
    net, run = load_generator(model)
    heldout = Inputs(run, net.to(device), device).heldout
    with torch.no_grad():
        write_image_grid(model.parent / SAMPLES, net(*heldout))


def logged(
    pending: list[tuple[int, float, Tensor]], checkpoint: Path, copies: float | None
) -> list[list[Any]]:
    """History rows of the pending iterations; read from the device only here.

    Args:
        pending: iteration, seconds, and the loss and its terms, (5,) on the device.
        checkpoint: is named where a term is no number.
        copies: the diversity term of a batch of copies; None where there is no such term.
    """
    rows = []
    for iteration, seconds, values in pending:
        numbers = values.tolist()
        for name, number in zip(TERMS, numbers[1:], strict=True):
            if not abs(number) < float("inf"):
                kept = f"{checkpoint} holds the last good state" if checkpoint.exists() else "none"
                raise DivergenceError(
                    f"iteration {iteration}: the {name} term is {number}; checkpoint: {kept}; "
                    "lower optimiser.lr or the term's weight"
                )
        if copies is not None and numbers[-1] > copies - 1e-3 * abs(copies):
            raise DivergenceError(
                f"iteration {iteration}: the diversity term does not act: all samples of the batch "
                "coincide; the generator ignores its noise (raise temperature or lower lr)"
            )
        rows.append([iteration, seconds, *numbers, None])
    return rows


def fingerprint(*tensors: Tensor | None) -> str:
    """Eight hexadecimal digits that identify the values of some tensors."""
    total = hashlib.sha256()
    for tensor in tensors:
        if tensor is not None:
            total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:8]


def resumed(checkpoint: Checkpoint, state: Mapping[str, Any]) -> tuple[int, list[list[Any]]]:
    """Give the parts of a training their state of the last checkpoint, where there is one.

    Returns the next iteration and the history so far.
    """
    kept = checkpoint.restore()
    if kept is None:
        return 1, []
    for name, part in state.items():
        part.load_state_dict(kept[name])
    log.warning("%s: going on after iteration %d", checkpoint.path, kept["iteration"])
    return kept["iteration"] + 1, kept["rows"]


def save_generator(path: Path, net: nn.Module, run: config.Training, **facts: float) -> None:
    """Write a trained generator with its whole run in the metadata."""
    metadata = {
        "format": FORMAT,
        "run": json.dumps(config.to_json(run)),
        "torch": torch.__version__,
        **{name: f"{value:.9g}" for name, value in facts.items()},
    }
    write_tensors(path, net.state_dict(), metadata)


def load_generator(path: Path) -> tuple[generators.Network, config.Training]:
    """A trained generator in evaluation mode, its weights frozen, and its run.

    Raises:
        MissingError, DataError: no such file; damaged; not a generator of this project.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") == "texnet-generator-1":
        raise DataError(
            f"{path}: was made by an older texnet, whose tensors have other names; train it again"
        )
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
    net = generators.build(run.generator, run.seed, run.images)
    kinds = [
        {name: f"{tuple(t.shape)} of {t.dtype}" for name, t in state.items()}
        for state in (tensors, net.state_dict())
    ]
    if found := difference(*kinds):
        raise DataError(
            f"{path}: weights do not fit their own metadata: tensor {found}; restore it"
        )
    net.load_state_dict(tensors)
    return net.eval().requires_grad_(False), run
