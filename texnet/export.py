"""Trained generators for other programs: ONNX files, and folders for the Hugging Face Hub."""

from __future__ import annotations

import importlib.util
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor

from texnet import cards, config, data, releases
from texnet.artifacts import (
    GENERATOR,
    check_writable,
    read_header,
    read_json,
    read_tensors,
    sha256,
    write_bytes,
    write_json,
    write_tensors,
    write_text,
)
from texnet.errors import DataError, MissingError, UsageError
from texnet.generators import Network
from texnet.inputs import NoiseStream
from texnet.plain import plain
from texnet.sharing import UNKNOWN, shareable, told
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
README, ATTRIBUTES = "README.md", ".gitattributes"
FILES = (CONFIG, ATTRIBUTES, README, WEIGHTS, ONNX, SAMPLES)
"""Of a folder for the Hub; the first marks it as one."""
COMPLETED = (README, ATTRIBUTES)
"""Those that their owner may have changed since; then they are kept."""
MARK = {"library_name": "texnet", "format": GENERATOR}
"""What the configuration of such a folder begins with."""
WRITTEN = "written"
"""Its key for SHA-256 of what was made for :data:`COMPLETED`."""
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
    In the file's metadata are what :func:`texnet.sharing.told` says of the run, the checksum of the
    model, and the licence. The same model gives the same bytes.

    Args:
        model: a generator, as ``texnet train`` writes it.
        out: the file to write, which ends in ``.onnx``; what is there is replaced.

    Returns:
        What was found at each of three sizes.

    Raises:
        UsageError: a package is missing; ``out`` is ``model``, or is not named as an ONNX file; the
            network has a layer that has no ONNX form here.
        MissingError, DataError: no such generator; or the images differ by more than 1e-4 and than
            rounding explains, and then nothing is written.
        WriteError: ``out`` cannot be written.
    """
    if name := missing():
        raise UsageError(f"ONNX needs the package {name}, which is not installed; {INSTALL}")
    from texnet import graphs

    if out.exists() and out.resolve() == model.resolve():
        raise UsageError(f"{out}: is the model itself; choose another file for its ONNX form")
    if out.suffix.lower() != ".onnx":
        raise UsageError(f"{out}: is no name of an ONNX file; name one that ends in .onnx")
    check_writable(out)
    net, run = load_generator(model)
    content = graphs.graph(net, run.name, about(model, run)).SerializeToString()
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


def about(model: Path, run: config.Training) -> dict[str, str]:
    """What the ONNX file of a model says of it."""
    header, run = read_header(model), shareable(run)
    said = told(run, cards.is_imported(header)) | {"model_sha256": sha256(model)}
    said["licence"] = cards.licence(run, header)
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in said.items()}


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

    ``README.md`` is its card below the metadata that the Hub reads; ``config.json`` has what
    :func:`texnet.sharing.told` says of its run; ``model.safetensors`` has the same tensors, and a
    run that names no folders. ``model.onnx`` is there where the extra ``onnx`` is installed, else a
    warning is logged and the card says so. A ``README.md`` or ``.gitattributes`` that somebody else
    wrote, or changed, is kept, with a warning. The same model and picture give the same bytes.
    Nothing is sent anywhere.

    Args:
        model: a generator, as ``texnet train`` writes it.
        folder: where to; made, empty, or made by this function before.
        picture: what the card shows; by default the ``samples.png`` of the workflow, where the
            model lies in the folder of its run, else samples of the texture, or a stylized
            photograph. Nothing of the exemplar, which may not be ours to publish.

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
    picture, run = picture or _samples(model), shareable(run)
    with tempfile.TemporaryDirectory() as temporary:  # whatever fails does so before the folder
        made = Path(temporary)
        _write_weights(made / WEIGHTS, model, run)
        if picture is None:
            data.write_image_grid(made / SAMPLES, shown(net, run))
        else:  # written anew: a camera's own data about time and place stay out
            data.write_image(made / SAMPLES, data.read_image(picture))
        if missing():
            log.warning("%s: %s is left out: it needs %s; %s", folder, ONNX, missing(), INSTALL)
        else:
            onnx(made / WEIGHTS, made / ONNX)
        write_text(made / ATTRIBUTES, LARGE_FILES)
        write_text(made / README, readme(made, net, run))
        written = {name: sha256(made / name) for name in COMPLETED}
        said = told(run, cards.is_imported(read_header(model)))
        write_json(made / CONFIG, {**MARK, WRITTEN: written, **said})
        return _moved(made, folder)


def _samples(model: Path) -> Path | None:
    """What the workflow drew beside a model of its own; another picture may be anybody's."""
    samples = model.parent / SAMPLES
    with suppress(MissingError, DataError, UsageError):
        run = config.read_run(model.parent / "run.json")
        if isinstance(run, config.Training) and releases.difference(model, run) is None:
            return samples if samples.is_file() else None
    return None


def _write_weights(out: Path, model: Path, run: config.Training) -> None:
    """The tensors of a model, with another description of its run."""
    tensors, metadata = read_tensors(model)
    metadata["run"] = json.dumps(config.to_json(run))
    if cards.IMPORTED in metadata:
        metadata["training"] = UNKNOWN
    write_tensors(out, tensors, metadata)


def _moved(made: Path, folder: Path) -> list[Path]:
    """Bring files into a folder for the Hub, but for what its owner has changed there."""
    before, there = _written(folder), (folder / CONFIG).exists()
    written = []
    # Killed in between, a new folder is known as one, and an old one keeps its checksums.
    for name in sorted(FILES, key=lambda name: (name == CONFIG) == there):
        file = folder / name
        if not (made / name).is_file():  # of the model that was there before
            file.unlink(missing_ok=True)
        elif name in COMPLETED and _changed(file, before.get(name), sha256(made / name)):
            log.warning(
                "%s: is kept: it is not as this program wrote it; delete it for a new one", file
            )
        else:
            write_bytes(file, (made / name).read_bytes())
            written.append(name)
    return [folder / name for name in FILES if name in written]


def _changed(file: Path, *known: str | None) -> bool:
    return file.is_file() and sha256(file) not in known


def _written(folder: Path) -> Mapping[str, str]:
    """SHA-256 of what :func:`hub` made for :data:`COMPLETED`, by name, as far as that is known."""
    with suppress(MissingError, DataError):
        found = read_json(folder / CONFIG).get(WRITTEN)
        return found if isinstance(found, dict) else {}
    return {}


def _check_folder(folder: Path) -> None:
    """UsageError where a folder holds what :func:`hub` did not make."""
    if not folder.is_dir():
        return  # whoever writes to it says what is wrong with it
    others = {file.name for file in folder.iterdir()} - {".git", ATTRIBUTES}
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
    there, header = (folder / ONNX).is_file(), read_header(folder / WEIGHTS)
    about = {
        "license": "mit" if cards.ours(run, header) else "other",
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
        CONFIG: "the run: what the training was given; files by name, without their folders",
        ONNX: f"not here: `texnet export {WEIGHTS} --onnx {ONNX}` makes it",
    }
    if cards.is_imported(header):
        files[WEIGHTS] = "the weights, with the network in their metadata"
        files[CONFIG] = f"the network; {UNKNOWN}"
    if there:
        from texnet import graphs

        given = ", ".join(f"`{k}` {v}".replace("'", "") for k, v in graphs.inputs(net).items())
        files[ONNX] = f"the network for ONNX Runtime and others: float32 {given} to `image`"
    front = yaml.safe_dump(about, sort_keys=False)
    return f"---\n{front}---\n\n{cards.card(folder / WEIGHTS, SAMPLES, files)}"
