"""The authors' released generators: which normalisation they had, and how good they are.

Writes to expected/authors and docs: rules.csv and authors_rules.png (every rule for the scale and
bias that the texture network's file lacks, against the authors' published sample and the exemplar);
authors_starry.png; metrics.csv and authors_beside.png (that network beside one of ours, trained on
the same exemplar). Prints the tables of docs/authors.md. First: texnet fetch vgg19 red_peppers
chicago authors_red_peppers authors_starry authors_starry_style authors_peppers_sample. A quarter of
an hour on one core.

    python benchmarks/authors.py RUN [rules] [stylization] [metrics]

RUN is the folder of a V1 network trained on red_peppers.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from tabulate import tabulate
from torch import Tensor, nn

from texnet import config, descriptors, registry, runtime, scoring, tables, torch7
from texnet.data import load_image, style_image
from texnet.inputs import HELDOUT_SEED, NoiseStream, sample_group
from texnet.layers import EPS
from texnet.losses import TextureLoss
from texnet.metrics import quantile_distance, quantiles
from texnet.texturenets import Join, TextureNetV1
from texnet.torch7_pyramid import Pyramid
from texnet.training import load_generator

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "expected" / "authors"
GRAMS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
SLICED = ("relu1_2", "relu2_2", "relu3_2", "relu4_2")
SAMPLES = 3
SIZE = 512
"""Of the published sample."""
TRAINED = 256
"""Of the images that the authors trained with."""
CROP = 128
"""Measured besides: of the exemplar, which has 256 pixels, there are several such crops."""
SCORED = 4 * config.GROUP
"""Samples of each network."""
RULES: tuple[tuple[str, torch7.Rule], ...] = (
    ("overrun", "overrun"),
    ("tiled", "tiled"),
    ("unit", "unit"),
    ("untouched", "unit"),
    ("zero", "zero"),
)
COLUMNS = (
    "statistics", "rule", "mean_off", "variance_off", "texture_published", "texture_exemplar",
    "sliced_wasserstein_published", "sliced_wasserstein_exemplar", "colour_published",
    "colour_exemplar",
)  # fmt: skip
SHOWN = ("texture", "sliced_wasserstein", "vendi", "pairwise_pixels", "spotting", "low_pass_share")


class FirstOnly(nn.Module):
    """A normalisation of the first channels that leaves the others as they are."""

    def __init__(self, norm: nn.Module, channels: int) -> None:
        super().__init__()
        self.norm, self.channels = norm, channels

    def forward(self, x: Tensor) -> Tensor:
        first = self.norm(x)[:, : self.channels]
        return torch.cat([first, x[:, self.channels :]], dim=1)


def with_image_statistics(file: Path, name: str, rule: torch7.Rule) -> tuple[Pyramid, TextureNetV1]:
    """Torch 7 in training mode, one image at a time."""
    pyramid = Pyramid(file, rule)
    net = torch7.network(pyramid, "image")
    if name == "untouched":
        for join in net.joins:
            if isinstance(join, Join):
                join.coarse_norm = FirstOnly(join.coarse_norm, pyramid.width)
    return pyramid, net


def with_running_statistics(
    file: Path, name: str, rule: torch7.Rule
) -> tuple[Pyramid, TextureNetV1]:
    """Torch 7 in evaluation mode; where the file has no statistics, those of its own samples."""
    pyramid = Pyramid(file, rule)
    net = torch7.network(pyramid, "measured")
    for norm in pyramid.norms:
        mean, variance = norm.kept
        channels, found = len(norm.mean), len(mean)
        norm.mean[:found], norm.variance[:found] = mean, variance
        if name == "tiled":
            norm.mean = mean.repeat(channels // found)
            norm.variance = variance.repeat(channels // found)
        elif name == "untouched":
            norm.mean[found:], norm.variance[found:] = 0, 1 - EPS
    torch7.fill(net.state_dict(), pyramid, 0)
    return pyramid, net


def agreement(pyramid: Pyramid) -> tuple[float, float]:
    """How far a pyramid's statistics in training mode are from those that its file holds.

    The largest difference of means, in standard deviations, and the largest factor of variances.
    """
    pyramid.measure()
    means, factors = [0.0], [1.0]
    for norm in pyramid.norms:
        mean, variance = norm.kept
        measured = norm.variance[: len(mean)] + EPS
        means.append(float(((norm.mean[: len(mean)] - mean) / (variance + EPS).sqrt()).abs().max()))
        factors.append(math.exp(float((measured / (variance + EPS)).log().abs().max())))
    return max(means), max(factors)


class Judge:
    """Distances of an image from a reference by VGG-19 and by colour."""

    def __init__(self, reference: Tensor, descriptor: descriptors.Descriptor) -> None:
        self.descriptor, self.reference = descriptor, reference
        features = descriptor(reference[None])
        self.texture = TextureLoss({k: descriptors.gram(features[k]) for k in GRAMS})
        self.sought = {k: quantiles(features[k]) for k in SLICED}

    def __call__(self, image: Tensor) -> tuple[float, float, float]:
        """Texture loss, sliced Wasserstein distance, and the distance of colour histograms.

        The second is the geometric mean over layers; the third the mean over R, G and B of the
        Wasserstein-1 distance, in grey levels.
        """
        features = self.descriptor(image[None].clamp(0, 1))
        texture = sum(float(v) for v in self.texture.by_layer(features).values())
        logs = [
            quantile_distance(quantiles(features[k]), self.sought[k]).log() for k in self.sought
        ]
        levels = [x.clamp(0, 1).flatten(1) for x in (image, self.reference)]
        at = torch.linspace(0, 1, 1001)
        found, sought = (
            torch.quantile(x[:, :: len(x[0]) // 2**16 or 1], at, dim=1) for x in levels
        )
        colour = 255 * float((found - sought).abs().mean())
        return texture, float(torch.stack(logs).mean().exp()), colour


@torch.no_grad()
def sample(net: TextureNetV1, size: int, number: int) -> Tensor:
    """Held-out sample ``number``, alone in its batch: (3, size, size)."""
    return net(None, NoiseStream(net, HELDOUT_SEED)(1, size, size, number))[0]


def compare_rules(file: Path) -> None:
    """Every rule against the file's own statistics, the published sample and the exemplar."""
    published, exemplar = load_image("authors_peppers_sample"), load_image("red_peppers")
    weights = config.weights_file(config.Descriptor("vgg19"))
    descriptor = descriptors.load("vgg19", {*GRAMS, *SLICED}, weights=weights)
    judges = [Judge(published, descriptor), Judge(exemplar, descriptor)]
    shown = {"published sample": published[:, :TRAINED, :TRAINED], "exemplar": exemplar}
    rows: list[list[object]] = []
    makers = {"image": with_image_statistics, "running": with_running_statistics}
    for statistics, make in makers.items():
        for name, rule in RULES:
            pyramid, net = make(file, name, rule)
            # What passes untouched is normalised while statistics are measured; those of training
            # mode are the same in both.
            known = statistics == "image" and name != "untouched"
            off = agreement(pyramid) if known else (None, None)
            images = [sample(net, SIZE, number) for number in range(SAMPLES)]
            found = torch.tensor([[j(image) for j in judges] for image in images]).mean(0)
            rows.append([statistics, name, *off, *found.T.flatten().tolist()])
            shown[f"{statistics}: {name}"] = images[0][:, :TRAINED, :TRAINED]
            print(*rows[-1], file=sys.stderr, flush=True)
    both = [judges[0](published), judges[1](published)]
    rows.append(["", "published", None, None, *torch.tensor(both).T.flatten().tolist()])
    tables.write_table(OUT / "rules.csv", COLUMNS, rows)
    print(tabulate(rows, COLUMNS, tablefmt="github", floatfmt=".3g"))
    picture(ROOT / "docs" / "authors_rules.png", shown, 6)


@torch.no_grad()
def levels(file: Path) -> tuple[float, float]:
    """By how many levels RGB was multiplied for the training, with its standard error.

    The factor of the exemplar at which the Gram matrices of samples at relu1_1 fit best: the vertex
    of a parabola, of each sample's own.
    """
    weights = config.weights_file(config.Descriptor("vgg19"))
    descriptor = descriptors.load("vgg19", {"relu1_1"}, weights=weights)
    net, exemplar = torch7.network(Pyramid(file)), load_image("red_peppers")[None]
    unit = Pyramid(file).levels / 255  # undoes what the import did
    count = 12
    made = [descriptor(unit * sample(net, TRAINED, n)[None])["relu1_1"] for n in range(count)]
    tried = list(range(250, 261, 2))
    sought = [descriptors.gram(descriptor(exemplar * k / 255)["relu1_1"]) for k in tried]
    vertices = []
    for features in made:
        found = descriptors.gram(features)
        errors = [float((found - g).square().sum() / g.square().sum()) for g in sought]
        curve = np.polynomial.Polynomial.fit(tried, errors, 2).convert().coef
        vertices.append(-curve[1] / curve[2] / 2)
    return float(np.mean(vertices)), float(np.std(vertices, ddof=1) / math.sqrt(count))


def picture(path: Path, images: dict[str, Tensor], columns: int) -> None:
    """Images of about the first one's proportions, with their names."""
    plt.style.use(ROOT / "figures" / "paper.mplstyle")
    rows, shape = -(-len(images) // columns), next(iter(images.values())).shape
    size = (1.5 * columns, rows * (1.5 * shape[1] / shape[2] + 0.2))
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained")
    for axis, (name, image) in zip(axes.flat, images.items(), strict=True):
        axis.axis("off")
        axis.imshow(image.clamp(0, 1).permute(1, 2, 0).detach().numpy())
        axis.set_title(name, fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


@torch.no_grad()
def show_stylization(file: Path) -> None:
    """A photograph by the released stylization network, and by its part in TextureNetV1."""
    pyramid = Pyramid(file)
    net = torch7.network(pyramid)
    content = style_image("chicago", TRAINED + CROP)
    content = content[None, :, : content.shape[1] // 32 * 32, : content.shape[2] // 32 * 32]
    height, width = content.shape[2:]
    noise = NoiseStream(net, 0)(1, height, width, 0)
    scales = zip(net.ratios, noise, strict=True)
    inputs = [torch.cat([nn.functional.avg_pool2d(content, k), z], dim=1) for k, z in scales]
    mean = torch.tensor(descriptors.CAFFE_MEAN_BGR)[:, None, None]
    torch7_made = (pyramid(inputs[-len(pyramid.scales) :])[0] + mean).flip(0) / pyramid.levels
    shown = {
        "style": load_image("authors_starry_style"),
        "content": content[0],
        "statistics of the image": torch7_made,
        "measured statistics": net(content, noise)[0],
    }
    picture(ROOT / "docs" / "authors_starry.png", shown, 4)


def with_instance_norm(run: config.Training, net: nn.Module) -> TextureNetV1:
    """A V1 network trained with batch normalisation, normalising each image by its own."""
    if not isinstance(run.generator, config.TextureNetV1) or run.generator.norm != "batch":
        raise SystemExit(f"{run.name} is no V1 network with batch normalisation")
    made = TextureNetV1("instance", run.generator.width, run.generator.noise_channels)
    state = net.state_dict()
    made.load_state_dict({name: state[name] for name in made.state_dict()})
    return made.eval()


def meter_of(run: config.Training, size: int) -> scoring.TextureMeter:
    """Measures images of a size by the layers of a run."""
    images = config.Texture("red_peppers", TRAINED, size, SCORED)
    return scoring.TextureMeter(dataclasses.replace(run, images=images), torch.device("cpu"))


def pieces(image: Tensor, size: int) -> list[Tensor]:
    """An image (3, H, W) cut into squares, in groups (8, 3, size, size) or smaller."""
    cut = image.unfold(1, size, size).unfold(2, size, size).permute(1, 2, 0, 3, 4)
    return list(cut.reshape(-1, 3, size, size).split(config.GROUP))


def measure(file: Path, ours: Path) -> None:
    """The released network, ours, the published sample and the exemplar by every texture metric."""
    trained, run = load_generator(ours / "model.safetensors")
    released = Pyramid(file)
    nets = {
        "authors": torch7.network(released, "image"),
        "authors_measured": torch7.network(released, "measured"),
        "ours_image": with_instance_norm(run, trained),
        "ours": trained,
    }
    rows = []
    meters = {size: meter_of(run, size) for size in (TRAINED, CROP)}
    groups: dict[str, list[Tensor]] = {
        name: [sample_group(net, TRAINED, group) for group in range(SCORED // config.GROUP)]
        for name, net in nets.items()
    }
    exemplar, published = load_image("red_peppers"), load_image("authors_peppers_sample")
    for size, meter in meters.items():
        made = {name: [x[..., :size, :size] for x in parts] for name, parts in groups.items()}
        made["authors_published"] = pieces(published, size)
        if size < TRAINED:
            crops = scoring.exemplar_crops(exemplar, size, SCORED, seed=0)
            made["crops"] = list(crops.split(config.GROUP))
            made["repeated"] = [x[:1].expand_as(x) for x in made["crops"]]
        for name, parts in made.items():
            for group, images in enumerate(parts):
                rows += meter(f"{name}_{size}px", 0, group, images)
            print(name, size, file=sys.stderr, flush=True)
    table = tables.summarise(rows)
    tables.write_table(OUT / "metrics.csv", tables.METRIC_COLUMNS, table)
    cells: dict[str, dict[str, str]] = {}
    for made_by, _, seed, metric, value, low, high, *_ in table:
        if seed == "all" and metric in SHOWN:
            shown = f"{value:.3g}" if low == high else f"{value:.3g} [{low:.3g}, {high:.3g}]"
            cells.setdefault(str(made_by), {})[str(metric)] = shown
    lines = [[name, *(cells[name][metric] for metric in SHOWN)] for name in cells]
    print(tabulate(lines, ["", *SHOWN], tablefmt="github", disable_numparse=True))
    beside = {
        "exemplar": exemplar,
        "published sample": published[:, :TRAINED, :TRAINED],
        "authors": groups["authors"][0][0],
        "ours": groups["ours"][0][0],
    }
    picture(ROOT / "docs" / "authors_beside.png", beside, 4)


PARTS = ("rules", "stylization", "metrics")


def main() -> None:
    if len(sys.argv) < 2 or not set(sys.argv[2:]) <= set(PARTS):
        raise SystemExit(__doc__)
    wanted = sys.argv[2:] or PARTS
    runtime.prepare("cpu", 1)
    file = registry.image("authors_red_peppers")
    if "rules" in wanted:
        print("levels of RGB: {:.2f}, standard error {:.2f}".format(*levels(file)))
        compare_rules(file)
    if "stylization" in wanted:
        show_stylization(registry.image("authors_starry"))
    if "metrics" in wanted:
        measure(file, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
