"""The two files of the name ``vgg19`` from public shards, byte for byte.

Nobody publishes the files as they are. Their values are in the shards of two conversions for
TensorFlow.js, which ``data/shards.csv`` lists: float32, whole for blocks 1 to 3, and 8 bits.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from texnet.artifacts import check_file
from texnet.errors import DataError
from texnet.registry import REGISTRY, Entry

SHARDS = REGISTRY.with_name("shards.csv")
EXACT = "vgg19/vgg19_conv1_1-conv3_4.safetensors"
EIGHT_BIT = "vgg19/vgg19_conv4_1-conv5_4.u8.safetensors"

WIDTHS = (3, 64, 64, 128, 128, *4 * (256,), *8 * (512,))
NAMES = [f"conv{b}_{n}" for b, last in enumerate((2, 2, 4, 4, 4), 1) for n in range(1, last + 1)]
LAYERS = list(zip(NAMES, WIDTHS, WIDTHS[1:], strict=False))
"""Name, inputs and outputs of each 3x3 convolution."""
Layers = Sequence[tuple[str, int, int]]
SKIPPED = 228416
"""Bytes of blocks 1 to 3 in the first of the 8-bit shards listed."""
AFFINE = {
    "conv4_1": (0.0014348510725825442, -0.1104835325888559),
    "conv4_2": (0.0019685134583828498, -0.11220526712782243),
    "conv4_3": (0.001523033427257164, -0.09138200563542984),
    "conv4_4": (0.0014028952986586327, -0.13608084396988737),
    "conv5_1": (0.001797486549498988, -0.11863411226693321),
    "conv5_2": (0.0018349884479653602, -0.11376928377385233),
    "conv5_3": (0.0015210261239725, -0.124724142165745),
    "conv5_4": (0.0011175481127757652, -0.11398990750312805),
}
"""Scale and minimum of each 8-bit kernel, as the conversion's manifest states them."""
PREPROCESSING = (
    "input: NCHW, channels B,G,R, range 0-255 minus mean [103.939,116.779,123.68], no division; "
    "conv 3x3 stride 1 zero pad 1 + ReLU; 2x2 stride 2 pooling after "
    "conv1_2,conv2_2,conv3_4,conv4_4 (max in the original)"
)
INFO = {
    EXACT: (
        "OIHW, transposed from HWIO",
        "float32, exact (Keras VGG19 imagenet = Caffe VGG_ILSVRC_19_layers)",
        PREPROCESSING,
        "github.com/DavidCai1993/vgg19-tensorflowjs-model "
        "@08d09052bc6258d3abdfa341850122fc4b746db6 model/group{1..8}-shard1of1",
    ),
    EIGHT_BIT: (
        "OIHW",
        "kernels uint8 per tensor: w = float32(float64(u8)*weight_scale + weight_min); "
        "biases exact float32",
        PREPROCESSING,
        "kernels: github.com/azertat/tfjs_models @3c14b35a1b5037c331fe01da1b00d2d3bb09bba9 "
        "models/little_shards; biases: last 512 floats of group{9..16} in "
        "DavidCai1993/vgg19-tensorflowjs-model @08d09052",
    ),
}
"""What the files say of themselves; their checksums cover this text too."""


def recipe(entry: Entry) -> list[Entry]:
    """The shards that make a file, in order; none for a file that is not made of shards.

    A shard's ``file`` is its name alone. Its ``sha256`` is empty where nobody knows it: the 8-bit
    shards hold biases, and the last float32 shards kernel values, that the file does not hold.
    """
    found = []
    with check_file(SHARDS, "the list of shards").open(newline="") as stream:
        for row in csv.DictReader(stream):
            if row["file"] == entry.file:
                urls, size = tuple(row["urls"].split()), int(row["bytes"])
                what = {"file": urls[0].rpartition("/")[2], "urls": urls}
                found.append(replace(entry, sha256=row["sha256"], bytes=size, **what))
    return found


def assemble(file: str, shards: Sequence[bytes]) -> bytes:
    """The bytes of a file that has a recipe, from the bytes of its shards in order.

    Raises:
        DataError: the shards are not as many or as large as they should be.
    """
    try:
        if file == EXACT:
            tensors = exact(LAYERS[:8], shards)
        else:
            tensors = eight_bit(LAYERS[8:], shards, SKIPPED)
    except ValueError as error:
        raise DataError(f"{file}: its shards have other sizes ({error}); get them again") from error
    keys = ("layout", "precision", "preprocessing", "source")
    return packed(tensors, json.dumps(dict(zip(keys, INFO[file], strict=True))))


def exact(layers: Layers, shards: Sequence[bytes]) -> dict[str, np.ndarray]:
    """Tensors of float32 shards, one a layer: the kernel (HWIO), then the bias."""
    found = {}
    for (name, inputs, outputs), shard in zip(layers, shards, strict=True):
        values = np.frombuffer(shard, "<f4")
        found[f"{name}.weight"] = _kernel(values[:-outputs], inputs, outputs)
        found[f"{name}.bias"] = values[-outputs:]
    return found


def eight_bit(layers: Layers, shards: Sequence[bytes], skipped: int) -> dict[str, np.ndarray]:
    """Tensors of 8-bit kernels and exact biases.

    Args:
        layers: name, inputs and outputs of each.
        shards: the pieces of one stream with the kernel (HWIO) and the bias of each layer, a byte
            a value; then for each layer float32 values, of which the last are its bias.
        skipped: bytes of the stream before the first layer.
    """
    pieces, floats = shards[: -len(layers)], shards[-len(layers) :]
    stream, found = np.frombuffer(b"".join(pieces)[skipped:], np.uint8), {}
    for (name, inputs, outputs), shard in zip(layers, floats, strict=True):
        kernel, _, stream = np.split(stream, np.cumsum([9 * inputs * outputs, outputs]))
        found[f"{name}.weight_u8"] = _kernel(kernel, inputs, outputs)
        for kind, value in zip(("scale", "min"), AFFINE[name], strict=True):
            found[f"{name}.weight_{kind}"] = np.array([value], "<f8")
        found[f"{name}.bias"] = np.frombuffer(shard, "<f4")[-outputs:].reshape(outputs)
    return found


def _kernel(values: np.ndarray, inputs: int, outputs: int) -> np.ndarray:
    return values.reshape(3, 3, inputs, outputs).transpose(3, 2, 0, 1)


def packed(tensors: Mapping[str, np.ndarray], info: str) -> bytes:
    """Tensors as safetensors: the widest values first, then by name.

    Written here, since the checksum covers the header and the library may change how it writes it.
    """
    kinds = {"<f8": "F64", "<f4": "F32", "|u1": "U8"}
    header: dict[str, object] = {"__metadata__": {"info": info}}
    order, end = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name)), 0
    for name in order:
        tensor, start = tensors[name], end
        end += tensor.nbytes
        shape = {"dtype": kinds[tensor.dtype.str], "shape": list(tensor.shape)}
        header[name] = shape | {"data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(tensors[n].tobytes() for n in order)
