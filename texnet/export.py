"""Trained generators for other programs: ONNX files, and folders for the Hugging Face Hub."""

from __future__ import annotations

import importlib.util
import logging
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor

from texnet import cards, config, data
from texnet.artifacts import (
    GENERATOR,
    check_writable,
    read_json,
    sha256,
    write_bytes,
    write_json,
    write_text,
)
from texnet.errors import DataError, MissingError, UsageError
from texnet.generators import Network
from texnet.inputs import NoiseStream
from texnet.plain import plain
from texnet.texturenets import TextureNetV2
from texnet.training import SAMPLES, load_generator

log = logging.getLogger(__name__)

PACKAGES = ("onnx", "onnxruntime")
INSTALL = "pip install -e '.[onnx]'"
LIMIT = 1e-4
"""How far ONNX Runtime's images may be from the network's own, in [0, 1]."""
ROUNDED = 4
"""How many times the network's own rounding they may be off where that is more: with instance norm
a pyramid amplifies it, through maps of little contrast."""
SIZES = ((1, 64, 64), (2, 75, 101), (1, 192, 256))
"""Number, height and width of the images at which both are compared."""
WEIGHTS, ONNX, CONFIG = "model.safetensors", "model.onnx", "config.json"
FILES = (CONFIG, ".gitattributes", "README.md", WEIGHTS, ONNX, SAMPLES)
"""Of a folder for the Hub, in the order of writing: the first marks it as one."""
MARK = {"library_name": "texnet", "format": GENERATOR}
"""What the configuration of such a folder begins with."""
LARGE_FILES = "".join(
    f"*.{kind} filter=lfs diff=lfs merge=lfs -text\n" for kind in ("safetensors", "onnx")
)
SHOWN = 256
"""Longer side of a photograph that is stylized to be shown."""


@dataclass(frozen=True)
class Check:
    """How far the images of ONNX Runtime were from the network's own, at one size."""

    count: int
    height: int
    width: int
    difference: float
    """The largest, absolute, of values in [0, 1]."""
    limit: float
    """What it may be."""

    def __str__(self) -> str:
        images = f"{self.count} image{'s' if self.count > 1 else ''}"
        return (
            f"{images} of {self.width}x{self.height} pixels: ONNX Runtime's and PyTorch's differ "
            f"by {self.difference:.1e} at most"
        )


def onnx(model: Path, out: Path) -> list[Check]:
    """Write a trained generator, in evaluation mode, as ONNX, once it is held against the network.

    Inputs are ``content`` (B, 3, H, W), where the network takes photographs, and what noise it
    takes, as ``noise`` or ``noise_0`` to ``noise_5``; the output is ``image`` (B, 3, H, W). All are
    float32, images RGB in [0, 1], the output unclamped. B, H and W are as free as the network
    leaves them: the noise of a TextureNetV1 has sides of 1, 2, ... 32 times the same two numbers.
    The run, the checksum of the model and the licence are in the file's metadata. The same model
    gives the same bytes.

    Args:
        model: a generator, as ``texnet train`` writes it.
        out: the file to write.

    Returns:
        What was found at each of three sizes.

    Raises:
        UsageError: a package is missing, or ``out`` is ``model``.
        MissingError, DataError: no such generator; or the images differ by more than 1e-4 and than
            rounding explains, and then nothing is written.
        WriteError: ``out`` cannot be written.
    """
    if name := missing():
        raise UsageError(f"ONNX needs the package {name}, which is not installed; {INSTALL}")
    from texnet import graphs

    if out.exists() and out.resolve() == model.resolve():
        raise UsageError(f"{out}: is the model itself; choose another file for its ONNX form")
    check_writable(out)
    net, run = load_generator(model)
    licence = cards.licence(run, cards.read_header(model))
    about = {"model_sha256": sha256(model), "licence": licence}
    content = graphs.graph(net, run, about).SerializeToString()
    checks = compared(content, net)
    for check in checks:
        if not check.difference <= check.limit:  # also where it is no number
            raise DataError(
                f"{model}: as ONNX, its images of {check.width}x{check.height} pixels differ by "
                f"{check.difference:.2g}, at most {check.limit:.2g} is wanted; {out} is not "
                f"written: {INSTALL} installs the versions that are known to agree"
            )
    write_bytes(out, content)
    return checks


def compared(content: bytes, net: Network) -> list[Check]:
    """Hold the images of an ONNX file against the network's own, at :data:`SIZES` or V2's one.

    What is stylized is a photograph, and beside it its mirror image.

    Args:
        content: the file.
        net: the network, in evaluation mode on the CPU.
    """
    from onnxruntime import InferenceSession, SessionOptions  # type: ignore[import-untyped]

    from texnet import graphs

    options = SessionOptions()
    options.log_severity_level = 3  # errors alone
    options.intra_op_num_threads = torch.get_num_threads()
    session = InferenceSession(content, options, providers=["CPUExecutionProvider"])
    photo, stream, checks = data.photo("chelsea"), NoiseStream(net, 0), []
    for number, (count, height, width) in enumerate(SIZES):
        if isinstance(net, TextureNetV2):
            count, height, width = number + 1, net.size, net.size
        noise, images = stream(count, height, width, number), None
        if graphs.takes_content(net):
            image = data.resize(photo, (height, width))
            images = torch.stack([image, image.flip(-1)][:count])
        with torch.no_grad():
            wanted = net(images, noise)
        given = noise if images is None else [images, *noise]
        feed = {k: z.numpy() for k, z in zip(graphs.inputs(net), given, strict=True)}
        found = torch.from_numpy(session.run(["image"], feed)[0])
        difference, limit = (found - wanted).abs().max().item(), LIMIT
        if difference > limit:
            limit = max(limit, ROUNDED * rounding(net, images, noise))
        height, width = found.shape[2:]
        checks.append(Check(len(found), height, width, difference, limit))
    return checks


@torch.no_grad()
def rounding(net: Network, content: Tensor | None, noise: Sequence[Tensor]) -> float:
    """How far a network's images are from those that float64 gives."""
    wide = None if content is None else content.double()
    exact = plain(net).double()(wide, [z.double() for z in noise])
    return (net(content, noise) - exact).abs().max().item()


def missing() -> str | None:
    """A package that ONNX needs and that is not installed; None where there is none."""
    return next((name for name in PACKAGES if importlib.util.find_spec(name) is None), None)


def hub(model: Path, folder: Path, picture: Path | None = None) -> list[Path]:
    """Lay out a trained generator as a model repository of the Hugging Face Hub.

    ``README.md`` is its card below the metadata that the Hub reads, ``config.json`` its run;
    ``model.onnx`` is there where the extra ``onnx`` is installed, else a warning is logged and the
    card says so. The same model and picture give the same bytes. Nothing is sent anywhere.

    Args:
        model: a generator, as ``texnet train`` writes it.
        folder: where to; made, empty, or made by this function before.
        picture: what the card shows; by default ``samples.png`` where that lies beside the model,
            else samples of the texture, or a stylized photograph. Nothing of the exemplar, which
            may not be ours to publish.

    Returns:
        The files that were written.

    Raises:
        UsageError: the folder holds something else.
        MissingError, DataError: no such generator or picture, or damaged; images of the ONNX file
            differ from the network's.
        WriteError: a file cannot be written.
    """
    _check_folder(folder)
    check_writable(folder / CONFIG)
    net, run = load_generator(model)
    beside = model.parent / SAMPLES
    picture = picture or (beside if beside.is_file() else None)
    with tempfile.TemporaryDirectory() as temporary:  # whatever fails does so before the folder
        made = Path(temporary)
        write_bytes(made / WEIGHTS, model.read_bytes())
        if picture is None:
            data.write_image_grid(made / SAMPLES, shown(net, run))
        else:  # written anew: a camera's own data about time and place stay out
            data.write_image(made / SAMPLES, data.read_image(picture))
        if missing():
            log.warning("%s: %s is left out: it needs %s; %s", folder, ONNX, missing(), INSTALL)
        else:
            onnx(made / WEIGHTS, made / ONNX)
        write_json(made / CONFIG, {**MARK, "run": config.to_json(run)})
        write_text(made / ".gitattributes", LARGE_FILES)
        write_text(made / "README.md", readme(made, net, run))
        written = []
        for name in FILES:
            if (made / name).is_file():
                write_bytes(folder / name, (made / name).read_bytes())
                written.append(folder / name)
            else:  # of the model that was there before
                (folder / name).unlink(missing_ok=True)
    return written


def _check_folder(folder: Path) -> None:
    """UsageError where a folder holds what :func:`hub` did not make."""
    if not folder.is_dir():
        return  # whoever writes to it says what is wrong with it
    others = {file.name for file in folder.iterdir()} - {".git", ".gitattributes"}
    with suppress(MissingError, DataError):
        if not others or MARK.items() <= read_json(folder / CONFIG).items():
            return
    raise UsageError(
        f"{folder}: holds {min(others)} and no {CONFIG} of texnet; name a new or an empty folder"
    )


@torch.no_grad()
def shown(net: Network, run: config.Training) -> Tensor:
    """Pictures (B, 3, H, W) of what a generator does: samples, or a photograph and what it makes.

    Four samples of a texture, at the size of the training; beside the photograph one picture, or
    three where there is noise.
    """
    stream = NoiseStream(net, 0)
    if isinstance(run.images, config.Texture):
        size = run.images.size
        return torch.cat([net(None, stream(1, size, size, i)) for i in range(4)])
    photo = data.fit(data.photo("chelsea"), SHOWN)[None]
    height, width = photo.shape[2:]
    noise = [stream(1, height, width, i) for i in range(3)]
    return torch.cat([photo, *(net(photo, z) for z in (noise if noise[0] else noise[:1]))])


def readme(folder: Path, net: Network, run: config.Training) -> str:
    """The card of the model in a folder, below what the Hub reads."""
    texture = isinstance(run.images, config.Texture)
    there = (folder / ONNX).is_file()
    about = {
        "license": "other" if cards.read_header(folder / WEIGHTS).imported else "mit",
        "library_name": "texnet",
        "pipeline_tag": "unconditional-image-generation" if texture else "image-to-image",
        "tags": [
            "texture-synthesis" if texture else "style-transfer",
            "texture-networks",
            "pytorch",
            *(["onnx"] if there else []),
        ],
    }
    files = {
        WEIGHTS: "the weights, with the run in their metadata",
        CONFIG: "the run: all that the training was given",
        ONNX: f"not here: `texnet export {WEIGHTS} --onnx {ONNX}` makes it",
    }
    if there:
        from texnet import graphs

        given = ", ".join(f"`{k}` {v}".replace("'", "") for k, v in graphs.inputs(net).items())
        files[ONNX] = f"the network for ONNX Runtime and others: float32 {given} to `image`"
    front = yaml.safe_dump(about, sort_keys=False)
    return f"---\n{front}---\n\n{cards.card(folder / WEIGHTS, SAMPLES, files)}"
