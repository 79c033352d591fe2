"""Descriptor networks: VGG-19's activations by layer name, and their Gram matrices.

Four networks share one architecture and one calling convention:

================= ====================== =======================================================
name              widths of the 5 blocks weights
================= ====================== =======================================================
vgg19             64 128 256 512 512     Simonyan & Zisserman's, in the Caffe/Keras normalisation
vgg19_torchvision 64 128 256 512 512     torchvision's own training, in its normalisation
vgg19_lite        16 32 64 128 128       distilled from vgg19 by :mod:`texnet.distillation`
random            16 32 64 128 128       untrained filters of a fixed seed: weights-free control
================= ====================== =======================================================

Images are RGB in [0, 1]; inside, they become what the weights were trained with: BGR in 0-255 minus
Caffe's channel means (authors' code, master branch, ``src/utils.lua``), or torchvision's RGB minus
mean over deviation.
"""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import IO, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from texnet import config, kernels
from texnet.artifacts import read_tensors, sha256
from texnet.errors import DataError, MissingError, UsageError
from texnet.registry import MANIFEST, entries_of, read_manifest, read_registry, verified
from texnet.winograd import Conv3x3

CONVOLUTIONS: tuple[str, ...] = tuple(
    f"{block}_{index}"
    for block, count in enumerate((2, 2, 4, 4, 4), start=1)
    for index in range(1, count + 1)
)
LAYERS: tuple[str, ...] = tuple(f"relu{name}" for name in CONVOLUTIONS)
WIDTHS: Mapping[str, tuple[int, ...]] = {
    "vgg19": (64, 128, 256, 512, 512),
    "vgg19_torchvision": (64, 128, 256, 512, 512),
    "vgg19_lite": (16, 32, 64, 128, 128),
    "random": (16, 32, 64, 128, 128),
}
LAST_LAYER: Mapping[str, str] = {
    "vgg19": "relu5_4",
    "vgg19_torchvision": "relu5_4",
    "vgg19_lite": "relu5_1",
    "random": "relu5_1",
}
CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)
TORCHVISION_MEAN, TORCHVISION_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Numbers of the convolutions in torchvision's Sequential, by which .pth files name them.
SEQUENTIAL = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)


class Descriptor(nn.Module):
    """The convolutions, rectifications and poolings of VGG-19 up to the last layer asked for.

    Args:
        widths: channels of each of the five blocks.
        layers: names of the activations to return, out of ``LAYERS``; order does not matter.
        pool: ``max`` (2x2, stride 2, ceil mode, as loadcaffe builds it) or ``avg`` (Gatys et al.).
        torchvision: whether the weights want torchvision's normalisation instead of Caffe's.
        winograd: whether wide layers may be convolved in fewer multiplications.

    Calling it with images (B, 3, H, W), RGB in [0, 1], returns ``{layer: (B, C, h, w)}``; h and w
    are H and W halved (rounding up) before each block but the first. Gradients flow to the images,
    never to the weights.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        widths: Iterable[int],
        layers: Iterable[str],
        pool: Literal["max", "avg"] = "max",
        torchvision: bool = False,
        winograd: bool = True,
    ) -> None:
        super().__init__()
        wanted = set(layers)
        if not wanted:
            raise UsageError("a descriptor needs at least one layer, for example relu1_1")
        if unknown := wanted - set(LAYERS):
            raise UsageError(
                f"unknown layer '{min(unknown)}'; layers are {LAYERS[0]}, {LAYERS[1]}, ... "
                f"{LAYERS[-1]}"
            )
        if pool not in ("max", "avg"):
            raise UsageError(f"unknown pooling '{pool}'; use max or avg")
        self.layers = tuple(name for name in LAYERS if name in wanted)
        self.pool, self.torchvision = pool, torchvision
        self.convolutions = cast("MutableMapping[str, nn.Conv2d]", nn.ModuleDict())
        channels, widths = 3, tuple(widths)
        for name in CONVOLUTIONS[: LAYERS.index(self.layers[-1]) + 1]:
            width = widths[int(name[0]) - 1]
            self.convolutions[name] = Conv3x3(channels, width, padding=1, winograd=winograd)
            channels = width
        mean = torch.tensor(TORCHVISION_MEAN if torchvision else CAFFE_MEAN_BGR)
        self.register_buffer("mean", mean.view(1, 3, 1, 1), persistent=False)
        deviation = torch.tensor(TORCHVISION_DEVIATION)
        self.register_buffer("deviation", deviation.view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    @property
    def compiled(self) -> bool:
        """Whether ``compile`` was called, after which all layers are one."""
        return self._compiled_call_impl is not None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return dict(self.activations(images))

    def activations(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        """(layer, (B, C, h, w)) one by one: each is computed when it is asked for.

        Raises:
            ValueError: other shapes; when the first is asked for.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (B, 3, H, W), got {tuple(images.shape)}")
        if self.torchvision:
            x = (images - self.mean) / self.deviation
        else:
            x = images.flip(1) * 255 - self.mean
        for name, convolution in self.convolutions.items():
            if name.endswith("_1") and name != "1_1":
                x = self.pooled(x)
            x = F.relu_(convolution(x))
            if f"relu{name}" in self.layers:
                yield f"relu{name}", x

    def pooled(self, x: Tensor) -> Tensor:
        """Maps at half the size, rounded up."""
        if self.pool == "max" and x.device.type == "cpu" and not torch.compiler.is_compiling():
            return kernels.MaxPool.apply(x)
        return (F.max_pool2d if self.pool == "max" else F.avg_pool2d)(x, 2, ceil_mode=True)

    def extra_repr(self) -> str:
        return f"layers={', '.join(self.layers)}; pool={self.pool}"


def gram(features: Tensor) -> Tensor:
    """Gram matrices F F^T / (C H W) of features (B, C, H, W): (B, C, C), symmetric, >= 0.

    Paper section 2; normalised as the authors do (``input[1]:nElement()``, src/texture_loss.lua).
    """
    return kernels.Gram.apply(features)


def load(
    name: config.DescriptorName,
    layers: Iterable[str],
    *,
    pool: Literal["max", "avg"] = "max",
    weights: Path | None = None,
    checksum: str | None = None,
    winograd: bool = True,
) -> Descriptor:
    """A descriptor with its weights, frozen, in evaluation mode.

    Args:
        name: ``vgg19``, ``vgg19_torchvision``, ``vgg19_lite`` or ``random``.
        layers: names of the activations to return.
        pool: see :class:`Descriptor`.
        weights: file to read, or the manifest of a name of the registry; may be left out where
            :func:`texnet.config.weights_file` knows it. A directory stands for all the safetensors
            files in it.
        checksum: SHA-256 that a weights *file* must have; that of vgg19_lite is known.
        winograd: see :class:`Descriptor`.

    Raises:
        UsageError: unknown descriptor, layer or pooling.
        MissingError, DataError: the weights are not there, are damaged, or are another network's.
    """
    if name not in WIDTHS:
        raise UsageError(f"unknown descriptor '{name}'; use one of {', '.join(WIDTHS)}")
    layers = tuple(layers)
    reachable = LAYERS[: LAYERS.index(LAST_LAYER[name]) + 1]
    for layer in layers:
        if layer in LAYERS and layer not in reachable:
            raise UsageError(
                f"descriptor '{name}' ends at {reachable[-1]} and has no layer '{layer}'; "
                "use vgg19 or an earlier layer"
            )
    torchvision = name == "vgg19_torchvision"
    descriptor = Descriptor(WIDTHS[name], layers, pool, torchvision, winograd)
    if name == "random":
        initialise(descriptor, torch.Generator().manual_seed(0))
    else:
        known = weights or config.weights_file(config.Descriptor(name=name))
        assert known is not None  # only random has no weights
        path = Path(known)
        if path == config.LITE_WEIGHTS and not checksum:
            checksum = read_registry()["vgg19_lite"][0].sha256
        if checksum and path.suffix == MANIFEST:
            raise UsageError(f"{path}: the registry has its checksums; leave out descriptor.sha256")
        if checksum and path.is_dir():
            raise UsageError(f"{path}: is a directory; a checksum can only be that of a file")
        if checksum and path.is_file() and (found := sha256(path)) != checksum:
            raise DataError(
                f"{path}: sha256 is {found}, wanted {checksum}; "
                "restore the file or correct the checksum"
            )
        state = read_weights(path, torchvision)
        for key, parameter in descriptor.named_parameters():
            _, convolution, kind = key.split(".")
            stored = f"conv{convolution}.{kind}"
            if stored not in state:
                raise DataError(f"{path}: has no tensor '{stored}'; these are not {name} weights")
            if state[stored].shape != parameter.shape:
                raise DataError(
                    f"{path}: '{stored}' has shape {tuple(state[stored].shape)}, {name} needs "
                    f"{tuple(parameter.shape)}; these are another network's weights"
                )
            parameter.copy_(state[stored])
    return descriptor.eval()


def initialise(descriptor: Descriptor, generator: torch.Generator) -> None:
    """He-normal filters and zero biases."""
    for convolution in descriptor.convolutions.values():
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu", generator=generator)
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)


def read_weights(path: Path, torchvision: bool = False) -> dict[str, Tensor]:
    """``{'conv1_1.weight': (O, I, 3, 3) float32, 'conv1_1.bias': (O,), ...}`` from a file.

    Reads safetensors, or a PyTorch state dictionary (``.pth``, with ``weights_only``) under the
    same names or torchvision's. Tensors stored at 8 bits (``NAME_u8`` with ``NAME_scale`` and
    ``NAME_min``) are expanded. A directory stands for the union of its safetensors files, a
    manifest (``.sha256``) for that of its files, which are verified.

    Args:
        path: what to read.
        torchvision: which of the two differently normalised networks is wanted; the other is
            refused.
    """
    path = Path(path)
    if path.suffix == MANIFEST:
        files = [verified(file, digest) for file, digest in read_manifest(path).items()]
        return {k: value for file in files for k, value in read_weights(file, torchvision).items()}
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        if not files:
            raise MissingError(f"{path}: this directory holds no .safetensors file")
        return {k: value for file in files for k, value in read_weights(file, torchvision).items()}
    if not path.is_file():
        raise MissingError(
            f"{path}: no such weights file; name it as descriptor.weights in the configuration "
            "or in the environment variable TEXNET_WEIGHTS"
        )
    if path.suffix in (".pth", ".pt"):
        state = _unpickled(path)
    else:
        state, _ = read_tensors(path)
    for key, value in state.items():
        _check_stored(path, key, value)
    state = _in_our_names(path, state, torchvision)
    weights = {}
    for key, value in state.items():
        if key.endswith("_u8"):
            stem = key.removesuffix("_u8")
            scale, least = (state.get(f"{stem}_{part}", value) for part in ("scale", "min"))
            if not all(each.is_floating_point() and each.numel() == 1 for each in (scale, least)):
                raise DataError(
                    f"{path}: '{key}' has no {stem}_scale and {stem}_min, one number each; "
                    "restore it"
                )
            exact = value.double() * scale + least
            weights[stem] = exact.float()
        elif not key.endswith(("_scale", "_min")):
            weights[key] = value.float()
    for key, value in weights.items():
        if not value.isfinite().all():
            raise DataError(f"{path}: tensor '{key}' holds NaN or infinity; restore the file")
    return weights


def _unpickled(path: Path) -> dict[str, Tensor]:
    """The state dictionary in a file of ``torch.save``; DataError for any other, and for damage."""
    try:
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as of a damaged pickle's odd protocol
            try:
                if zipfile.is_zipfile(stream):
                    _check_zip(stream)
                stream.seek(0)
                state = torch.load(stream, map_location="cpu", weights_only=True)
            except Exception as error:  # torch raises half a dozen types for a damaged file
                detail = f": {error}" if isinstance(error, zipfile.BadZipFile) else ""
                raise DataError(
                    f"{path}: is not a plain dictionary of tensors ({type(error).__name__}"
                    f"{detail}); restore it or convert it to safetensors"
                ) from error
    except OSError as error:
        raise MissingError(
            f"{path}: cannot be read ({error.strerror}); make it readable or name another file"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise DataError(f"{path}: is not a plain dictionary of tensors; convert it to safetensors")
    return state


def _check_zip(stream: IO[bytes]) -> None:
    """BadZipFile for what PyTorch reads without a look at the checksums of its own format."""
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        # torch.save compresses nothing: a larger content is a bomb.
        if sum(member.file_size for member in members) > stream.seek(0, os.SEEK_END):
            raise zipfile.BadZipFile("compressed")
        # The DOS attribute of a folder: PyTorch would give whatever is in memory.
        if any(member.external_attr & 0x10 for member in members):
            raise zipfile.BadZipFile("a tensor is marked as a folder")
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")


def _check_stored(path: Path, key: str, value: Tensor) -> None:
    """DataError for a tensor that holds no weights, or whose values are more than are stored."""
    wanted = "uint8" if key.endswith("_u8") else "floating point"
    kind = str(value.dtype).removeprefix("torch.")
    plain = value.layout == torch.strided and not (value.is_nested or value.is_quantized)
    if not plain or value.is_meta:
        kind = "no plain tensor"
    elif value.numel() * value.itemsize > value.untyped_storage().nbytes():
        kind = f"{value.numel()} values in {value.untyped_storage().nbytes()} bytes"
    elif value.is_floating_point() if wanted != "uint8" else value.dtype == torch.uint8:
        return
    raise DataError(f"{path}: tensor '{key}' is {kind}, wanted {wanted}; convert it")


def _in_our_names(path: Path, state: Mapping[str, Tensor], torchvision: bool) -> dict[str, Tensor]:
    """Tensors named as ours are, of the wanted one of two networks that differ in numbers alone.

    Our names mean Caffe's network. Torchvision's names (``features.0.weight``) mean torchvision's,
    but for the one file of the registry that has Caffe's network under them.
    """
    if not any(key.startswith("features.") for key in state):
        if torchvision:
            raise DataError(
                f"{path}: names its tensors conv1_1.weight, ..., as Caffe's network; "
                "vgg19_torchvision wants torchvision's own file"
            )
        return dict(state)
    caffe = sha256(path) in [entry.sha256 for entry in entries_of("vgg19_exact")]
    if torchvision and caffe:
        raise DataError(f"{path}: is Caffe's network; use descriptor.name vgg19")
    if not torchvision and not caffe:
        raise DataError(
            f"{path}: names its tensors as torchvision does and is not registered as Caffe's "
            "network, which wants another normalisation; use descriptor.name vgg19_torchvision, or "
            "fetch vgg19_exact"
        )
    names = dict(zip(map(str, SEQUENTIAL), CONVOLUTIONS, strict=True))
    split = {key: key.split(".") for key in state if key.startswith("features.")}
    try:
        return {f"conv{names[n]}.{kind}": state[key] for key, (_, n, kind) in split.items()}
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: '{error}' is no convolution of VGG-19; restore it") from error
