"""Distilling VGG-19 into ``vgg19_lite``: the same layers at a quarter of the width.

Each layer of the student is read out by one linear 1x1 convolution that must predict the same
layer of the teacher; student and readouts are trained together. Nothing else links them, so the
student's own channels come to span the teacher's activations. One freedom is then removed: a
channel may be scaled if the next layer undoes it (ReLU is homogeneous), so every channel is scaled
until its readout column has length 4, by which the teacher is wider. Were the columns orthogonal,
the mean squared entry of a Gram matrix over C H W would equal the teacher's: texture losses keep
VGG-19's size and its balance between layers, and content losses are a quarter of VGG-19's.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from texnet import kernels
from texnet.artifacts import sha256, write_tensors
from texnet.data import fit, images_under, read_image, resize
from texnet.descriptors import LAST_LAYER, LAYERS, WIDTHS, Descriptor, initialise, load

DISTILLED_LAYERS = LAYERS[: LAYERS.index(LAST_LAYER["vgg19_lite"]) + 1]
# Full-resolution maps hold most positions and the least to learn: they are compared on a grid.
STRIDES = {1: 4, 2: 2}
HELD_OUT = 8
Seen = tuple[Tensor, int, int, dict[str, Tensor]]  # views, place of the grid, the teacher's layers


@dataclass(frozen=True)
class Settings:
    """How a distillation is run; the defaults made ``data/vgg19_lite.safetensors``."""

    steps: int = 7000
    batch: int = 8
    size: int = 128
    lr: float = 3e-3
    reuse: int = 3
    """Student steps for each batch that the teacher sees (the teacher costs most of the time)."""
    memory: int = 24
    """Batches kept for reuse."""
    seed: int = 0


def augmented_crop(image: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    """A random view (3, size, size) of an image: scale, place, mirror, colour, blur, noise.

    Values may leave [0, 1] a little and one view in five carries noise, because optimisation and
    half-trained generators show the descriptor such images too.
    """
    height, width = image.shape[-2:]
    short = min(height, width)
    side = int(short * math.sqrt(rng.uniform(min(1.0, (size / short) ** 2) * 0.6, 1)))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    view = resize(image[:, top : top + side, left : left + side], (size, size))
    if rng.random() < 0.5:
        view = view.flip(-1)
    if rng.random() < 0.6:
        gain = rng.uniform(0.6, 1.4) * rng.uniform(0.85, 1.15, size=(3, 1, 1))
        offset = rng.uniform(-0.15, 0.15, size=(3, 1, 1))
        view = (
            (view - 0.5) * torch.from_numpy(gain).float() + 0.5 + torch.from_numpy(offset).float()
        )
    if rng.random() < 0.2:
        noise = torch.from_numpy(rng.standard_normal((3, size, size))).float()
        view = view + float(rng.uniform(0.02, 0.35)) * noise
    return view


class Readouts(nn.ModuleDict):
    """One 1x1 convolution with bias per layer, from the student's width to the teacher's."""

    def __init__(self, layers: Sequence[str], generator: torch.Generator) -> None:
        super().__init__()
        for layer in layers:
            block = int(layer[4]) - 1
            student, teacher = WIDTHS["vgg19_lite"][block], WIDTHS["vgg19"][block]
            readout = nn.Conv2d(student, teacher, 1)
            nn.init.normal_(readout.weight, std=1 / math.sqrt(student), generator=generator)
            assert readout.bias is not None
            nn.init.zeros_(readout.bias)
            self[layer] = readout

    def __getitem__(self, layer: str) -> nn.Conv2d:
        return cast("nn.Conv2d", super().__getitem__(layer))


def on_grid(features: dict[str, Tensor], top: int, left: int) -> dict[str, Tensor]:
    """Features at every fourth position of block 1 and every second of block 2, from an offset."""
    return {
        layer: f[..., top % s :: s, left % s :: s]
        if (s := STRIDES.get(int(layer[4]), 1)) > 1
        else f
        for layer, f in features.items()
    }


def distil(
    teacher: Descriptor,
    images: Sequence[Tensor],
    settings: Settings,
    *,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, shares: None,
) -> tuple[Descriptor, Readouts]:
    """Train a student of ``teacher`` on views of ``images``.

    The objective is the mean over layers of the share of the teacher's variance that the readout
    leaves unexplained. Adam, cosine decay to zero.

    Args:
        teacher: VGG-19 with all of ``DISTILLED_LAYERS``.
        images: training images (3, H, W).
        settings: see :class:`Settings`.
        on_step: called after each step with its number and the unexplained share per layer.

    Returns the student, its channels scaled, and the readouts that match it.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    student = Descriptor(WIDTHS["vgg19_lite"], DISTILLED_LAYERS)
    initialise(student, generator)
    kernels.channels_last(student).requires_grad_(True)
    readouts = Readouts(DISTILLED_LAYERS, generator)
    # Targets reach thousands in Caffe units: both sides are measured in teacher deviations.
    scales = teacher_scales(teacher, images, settings)
    parameters = [*student.parameters(), *readouts.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=settings.lr, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.lr, total_steps=settings.steps, pct_start=0.05
    )
    seen: deque[Seen] = deque(maxlen=settings.memory)
    for step in range(settings.steps):
        rng = np.random.Generator(np.random.Philox(key=[settings.seed, step]))
        if step % settings.reuse == 0:
            chosen = rng.integers(len(images), size=settings.batch)
            views = torch.stack([augmented_crop(images[i], settings.size, rng) for i in chosen])
            top, left = (int(i) for i in rng.integers(max(STRIDES.values()), size=2))
            with torch.no_grad():
                targets = {k: f.half() for k, f in on_grid(teacher(views), top, left).items()}
            seen.append((views, top, left, targets))
            current = seen[-1]
        else:
            current = seen[int(rng.integers(len(seen)))]
        views, top, left, targets = current
        predictions = on_grid(student(views), top, left)
        shares = {
            layer: F.mse_loss(
                readouts[layer](predictions[layer] / scales[layer]),
                targets[layer].float() / scales[layer],
            )
            for layer in DISTILLED_LAYERS
        }
        optimiser.zero_grad(set_to_none=True)
        (sum(shares.values(), torch.zeros(())) / len(shares)).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        on_step(step + 1, {layer: share.item() for layer, share in shares.items()})
    with torch.no_grad():
        for layer in DISTILLED_LAYERS:
            bias = readouts[layer].bias
            assert bias is not None
            bias *= scales[layer]
    return balance(student, readouts), readouts


@torch.no_grad()
def teacher_scales(
    teacher: Descriptor, images: Sequence[Tensor], settings: Settings, count: int = 32
) -> dict[str, float]:
    """Per layer, the root of the teacher's variance about each channel's mean, over some views."""
    key = np.array([settings.seed, 2**63], dtype=np.uint64)
    rng = np.random.Generator(np.random.Philox(key=key))
    chosen = rng.integers(len(images), size=count)
    views = [augmented_crop(images[i], settings.size, rng) for i in chosen]
    moments: dict[str, list[Tensor]] = {layer: [] for layer in DISTILLED_LAYERS}
    for view in views:
        for layer, f in teacher(view[None]).items():
            moments[layer].append(torch.stack([f.mean((0, 2, 3)), f.square().mean((0, 2, 3))]))
    scales = {}
    for layer, parts in moments.items():
        mean, square = torch.stack(parts).mean(0)
        scales[layer] = float((square - mean.square()).mean().sqrt())
    return scales


@torch.no_grad()
def balance(student: Descriptor, readouts: Readouts) -> Descriptor:
    """Scale every channel so that its readout column has length C_teacher / C_student.

    The functions computed by the readouts are unchanged.
    """
    names = list(student.convolutions)
    incoming = torch.ones(3)
    for name in names:
        convolution, readout = student.convolutions[name], readouts[f"relu{name}"]
        wider = readout.out_channels / readout.in_channels
        length = readout.weight.square().sum((0, 2, 3)).sqrt().clamp_min(1e-3) / wider
        assert convolution.bias is not None
        convolution.weight *= length.view(-1, 1, 1, 1) / incoming.view(1, -1, 1, 1)
        convolution.bias *= length
        readout.weight /= length.view(1, -1, 1, 1)
        incoming = length
    return student.requires_grad_(False)


@torch.no_grad()
def explained(
    teacher: Descriptor, student: Descriptor, readouts: Readouts, images: Sequence[Tensor]
) -> dict[str, float]:
    """R² per layer: 1 - residual / variance about each channel's mean, pooled over ``images``."""
    residual = dict.fromkeys(DISTILLED_LAYERS, 0.0)
    sums: dict[str, list[Tensor]] = {layer: [] for layer in DISTILLED_LAYERS}
    for image in images:
        wanted, found = teacher(image[None]), student(image[None])
        for layer in DISTILLED_LAYERS:
            target = wanted[layer].double()
            residual[layer] += float((readouts[layer](found[layer]) - target).square().sum())
            count = torch.tensor(float(target[0, 0].numel())).expand(target.shape[1])
            sums[layer].append(
                torch.stack([count, target.sum((0, 2, 3)), target.square().sum((0, 2, 3))])
            )
    r2 = {}
    for layer, parts in sums.items():
        count, total, square = torch.stack(parts).sum(0)
        r2[layer] = 1 - residual[layer] / float((square - total.square() / count).sum())
    return r2


def run(
    teacher: Path,
    folders: Sequence[Path],
    out: Path,
    settings: Settings,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, shares: None,
    note: str = "",
) -> dict[str, float]:
    """Distil the VGG-19 in ``teacher`` on the images below ``folders`` and write ``out`` (fp16).

    Every eighth image, in order of path, is held out; R² per layer on those, of the weights as
    stored, goes into the metadata with the teacher's checksums, and is returned.
    """
    files = images_under(folders)
    images = [read_image(f) for i, f in enumerate(files) if i % HELD_OUT]
    images = [fit(image, 512) if max(image.shape) > 512 else image for image in images]
    network = kernels.channels_last(load("vgg19", DISTILLED_LAYERS, weights=teacher))
    student, readouts = distil(network, images, settings, on_step=on_step)
    return publish(teacher, network, student, readouts, folders, out, settings, note)


@torch.no_grad()
def publish(
    teacher: Path,
    network: Descriptor,
    student: Descriptor,
    readouts: Readouts,
    folders: Sequence[Path],
    out: Path,
    settings: Settings,
    note: str,
) -> dict[str, float]:
    """Write the student at half precision with R² per layer and where it comes from."""
    for parameter in student.parameters():
        parameter.copy_(parameter.half().float())
    files = images_under(folders)
    heldout = [fit(read_image(f), 320) for f in files[::HELD_OUT]]
    r2 = explained(network, student, readouts, heldout)
    weights = sorted(teacher.glob("*.safetensors")) if teacher.is_dir() else [teacher]
    names = " ".join(folder.name for folder in folders)
    metadata = {
        "format": "texnet-descriptor-1",
        "network": "vgg19_lite",
        "teacher": "VGG-19, ImageNet, Caffe/Keras normalisation; " + note,
        "teacher_sha256": json.dumps({file.name: sha256(file) for file in weights}),
        "images": f"{len(files) - len(heldout)} images of {names}",
        "heldout": f"{len(heldout)} images, every {HELD_OUT}th by path",
        "r2": json.dumps({layer: round(value, 4) for layer, value in r2.items()}),
        "settings": json.dumps(asdict(settings)),
        "command": f"texnet distill --teacher {teacher.name} --images {names}"
        f" --steps {settings.steps} --seed {settings.seed} --threads {torch.get_num_threads()}"
        f" --out {out.name}",
        "torch": torch.__version__,
    }
    tensors = {f"conv{k.partition('.')[2]}": v.half() for k, v in student.state_dict().items()}
    write_tensors(out, tensors, metadata)
    return r2
