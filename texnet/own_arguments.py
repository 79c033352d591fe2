"""The command line's verbs for somebody's own images."""

from __future__ import annotations

import argparse
from pathlib import Path

from texnet import own_commands
from texnet.options import Parser, Verbs, computing, extent, share, whole

CORES = "half as many as there are cores, 4 at most"
DESCRIPTORS = ("vgg19_lite", "vgg19", "vgg19_torchvision", "random")
COUNT = whole(1, 10_000)
PIXELS = whole(16, 8192)


def add(verbs: Verbs) -> None:
    """Add them, in the order in which they are needed."""
    trainings(verbs)
    applications(verbs)
    optimisations(verbs)
    scores(verbs)
    files(verbs)


def preset(p: Parser, training: bool = True) -> None:
    """How large and how long."""
    p.add_argument(
        "--preset",
        choices=("quick", "paper"),
        default="quick",
        help="quick: minutes on two cores, no download (default); paper: the paper's sizes, with"
        " VGG-19, for a GPU",
    )
    p.add_argument(
        "--descriptor", choices=DESCRIPTORS, help="another than the preset's; fetched where needed"
    )
    p.add_argument("--size", type=PIXELS, help="side in pixels (default: the preset's)")
    p.add_argument(
        "--exemplar-size", type=PIXELS, help="longer side at which the exemplar is seen, in pixels"
    )
    if training:
        p.add_argument("--iterations", type=whole(1), help="default: the preset's")
        p.add_argument("--batch", type=whole(1, 1024), help="default: the preset's")
    p.add_argument("--seed", type=whole(0), default=0, help="default: 0")
    computing(p, CORES)


def trainings(verbs: Verbs) -> None:
    p = verbs.add(
        own_commands.train_texture,
        "train a texture network on an image of yours (goes on where it was stopped)",
        "my.jpg --size 256 -o my.safetensors",
        "train texture",
    )
    p.add_argument("exemplar", help="the texture: an image, or a name (texnet fetch --list)")
    p.add_argument("-o", "--out", type=Path, help="model to write (default: NAME.safetensors)")
    p.add_argument(
        "--network",
        choices=("v1", "v2"),
        default="v1",
        help="TextureNetV1: samples of any size, which tile (default); TextureNetV2: of one size",
    )
    diversity(p, "samples that differ more")
    preset(p)

    p = verbs.add(
        own_commands.train_style,
        "train a stylizer on a painting of yours (goes on where it was stopped)",
        "my.jpg --content photos/ --preview me.jpg -o my.safetensors",
        "train style",
    )
    p.add_argument("style", help="the style: an image, or a name (texnet fetch --list)")
    p.add_argument("-o", "--out", type=Path, help="model to write (default: NAME.safetensors)")
    p.add_argument(
        "--content",
        nargs="+",
        default=[],
        metavar="PATH",
        help="photographs to train on: images, folders, names (default: a few that are installed)",
    )
    p.add_argument(
        "--preview",
        nargs="+",
        default=[],
        metavar="IMAGE",
        help="photographs, not among those, that show how far it is (default: one installed)",
    )
    content_weight(p)
    diversity(p, "a generator with noise, whose stylizations of one photograph differ")
    preset(p)


def temperature(text: str) -> float | str:
    """A type of argument: T, or what an option without it stands for."""
    return text if text == "usual" else share(1e-6, 1e9)(text)


def diversity(p: Parser, what: str) -> None:
    """The diversity term of eq. 10."""
    p.add_argument(
        "--diversity",
        type=temperature,
        nargs="?",
        const="usual",
        metavar="T",
        help=f"{what}: the diversity term of eq. 10, with this T (default: the preset's)",
    )


def content_weight(p: Parser) -> None:
    """The paper's alpha."""
    p.add_argument(
        "--content-weight",
        type=share(0, 1e6),
        metavar="ALPHA",
        help="more keeps more of the photograph (default: the preset's)",
    )


def applications(verbs: Verbs) -> None:
    p = verbs.add(
        own_commands.stylize,
        "apply a trained stylizer to an image, a folder or a video",
        "my.safetensors photo.jpg -o out",
    )
    p.add_argument("model", type=Path)
    p.add_argument(
        "image", type=Path, help="an image, a folder of images, a video or a photograph's name"
    )
    p.add_argument("-o", "--out", type=Path, required=True, help="folder of the results")
    p.add_argument("--size", type=whole(16, 8000), help="longer side in pixels (default: kept)")
    p.add_argument(
        "-n",
        "--count",
        "--samples",
        type=COUNT,
        default=1,
        help="stylizations of each image, where the generator takes noise (default 1)",
    )
    p.add_argument("--seed", type=whole(0), help="of that noise (default 0)")
    p.add_argument(
        "--keep-colour", action="store_true", help="stylize the luminance, keep the colours"
    )
    p.add_argument(
        "--brush-size",
        type=share(0.1, 16),
        default=1.0,
        metavar="FACTOR",
        help="wider strokes (above 1) or finer ones (below 1), e.g. 1.5 (default 1)",
    )
    computing(p, 1)

    p = verbs.add(
        own_commands.sample, "make textures", "my.safetensors -n 8 --size 1024x512 --seed 3 -o out"
    )
    p.add_argument("model", type=Path)
    p.add_argument("-n", "--count", type=COUNT, default=1, help="samples (default 1)")
    p.add_argument("-o", "--out", type=Path, required=True, help="folder of the results (PNG)")
    p.add_argument("--size", type=extent, help="WIDTHxHEIGHT in pixels (default: as trained)")
    p.add_argument("--seed", type=whole(0), default=0, help="of the noise")
    computing(p, 1)


def optimisations(verbs: Verbs) -> None:
    p = verbs.add(
        own_commands.optimize_texture,
        "make a texture by optimisation, as Gatys et al. 2015",
        "my.jpg --size 256 -o texture.png",
        "optimize texture",
    )
    p.add_argument("exemplar", help="the texture: an image, or a name")
    optimised(p, "noise, or an image")

    p = verbs.add(
        own_commands.optimize_style,
        "stylize one photograph by optimisation, as Gatys et al. 2016",
        "painting.jpg --content photo.jpg -o stylized.png",
        "optimize style",
    )
    p.add_argument("style", help="the style: an image, or a name")
    p.add_argument("--content", required=True, help="the photograph: an image, or a name")
    content_weight(p)
    optimised(p, "noise, content, or an image")


def optimised(p: Parser, starts: str) -> None:
    """What both optimisations take."""
    p.add_argument("-o", "--out", type=Path, required=True, help="picture to write (.png)")
    p.add_argument("--start", default="noise", help=f"{starts} (default: noise)")
    p.add_argument("--evaluations", type=whole(1), help="of the objective (default: the preset's)")
    p.add_argument("-n", "--count", type=COUNT, default=1, help="images, from other noise")
    preset(p, training=False)


def scores(verbs: Verbs) -> None:
    def table(text: str) -> Path:
        if Path(text).suffix.lower() != ".csv":
            raise argparse.ArgumentTypeError(f"'{text}' is no .csv file; a table is written")
        return Path(text)

    p = verbs.add(
        own_commands.score,
        "measure models and images, anybody's, or runs of the workflow",
        "my.safetensors others/ --exemplar my.jpg",
    )
    p.add_argument(
        "what", type=Path, nargs="+", help="models, images, folders of images; or folders of runs"
    )
    p.add_argument("-o", "--out", type=table, help="table to write (.csv)")
    p.add_argument("--exemplar", help="the texture or the style (default: the first model's)")
    p.add_argument(
        "--content",
        type=Path,
        help="of stylizations: the photograph, or the folder of photographs of the same names",
    )
    p.add_argument(
        "-n",
        "--count",
        type=COUNT,
        default=32,
        help="of textures: samples of a model, and crops of the exemplar (default 32)",
    )
    p.add_argument(
        "--sizes", type=PIXELS, nargs="*", default=[], help="of runs: other sides to measure at"
    )
    preset(p, training=False)


def files(verbs: Verbs) -> None:
    p = verbs.add(own_commands.info, "show a file's model card", "my.safetensors")
    p.add_argument("file", type=Path, help="a model, or another safetensors file")

    p = verbs.add(
        own_commands.export,
        "write a model as ONNX, or as a folder for the Hugging Face Hub",
        "my.safetensors --onnx my.onnx",
    )
    p.add_argument("model", type=Path)
    p.add_argument("--onnx", type=Path, metavar="FILE", help="checked against PyTorch")
    p.add_argument("--hub", type=Path, metavar="FOLDER", help="made without network")
    p.add_argument("--picture", type=Path, help="for its card (default: made by the model)")

    p = verbs.add(
        own_commands.import_torch7,
        "import a generator that the authors released for Torch7",
        "authors_red_peppers -o authors.safetensors",
        "import-torch7",
    )
    p.add_argument("source", help="a .t7 file, or its name (texnet fetch --list)")
    p.add_argument("-o", "--out", type=Path, required=True, help="model to write (.safetensors)")
    p.add_argument("--exemplar", help="what it was trained on: an image, or a name")
    p.add_argument(
        "--normalisation",
        choices=("overrun", "tiled", "unit", "zero"),
        default="overrun",
        help="how scale and bias go on that the files lack (default: overrun, as the GPU had it)",
    )
