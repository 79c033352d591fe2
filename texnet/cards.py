"""Model cards: what a trained generator is, from its file alone and without PyTorch.

A card is Markdown. It holds what the file's metadata and tensors say; what they do not say is not
in it.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from texnet.artifacts import DIGEST, GENERATOR, Header, read_header
from texnet.config import Images, Objective, Optimiser, Texture, Training
from texnet.networks import SkipNet, StyleNet, TextureNetV1, TextureNetV2
from texnet.registry import DRAWN, PHOTOS, registered
from texnet.releases import run_of
from texnet.textures import V1_OPTIMISER, label_of

IMPORTED, IMPORTED_DIGEST = "imported_from", "imported_sha256"
"""Metadata of a generator that others trained: its run says what the network is, and no more."""
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
NAMES = 8
"""Content images that are named."""
ROWS = 40
"""Tensors that are listed."""
LONGEST = 400
"""Characters of a value in a table."""

NETWORKS = {
    StyleNet: "StyleNet, the residual stylization network (section 5.2 of the paper)",
    SkipNet: "SkipNet, an encoder and decoder with skips (after the authors' v1 code)",
    TextureNetV1: "TextureNetV1, the multi-scale pyramid of Texture Networks (ICML 2016)",
    TextureNetV2: "TextureNetV2, fully connected layers and upsampling convolutions (section 5.1)",
}
NORMS = {
    "instance": "instance (IN, eq. 12): each image by its own mean and variance, at test time as "
    "in training",
    "batch": "batch (BN, eq. 13): in training by the batch's mean and variance, at test time by "
    "their running averages, whatever else is in a batch",
    "instance_first": "batch (BN), and instance (IN) of the input alone (figure 2); at test "
    "time BN takes the running averages of training",
    "lrn_first": "batch (BN), and cross-channel (LRN) of the input (figure 2); at test time BN "
    "takes the running averages of training",
    "none": "none",
}
DESCRIPTORS = {
    "vgg19": "VGG-19 in Caffe's normalisation, the paper's",
    "vgg19_torchvision": "torchvision's VGG-19, another network than the paper's",
    "vgg19_lite": "VGG-19 at a quarter of its width, distilled by texnet",
    "random": "VGG-19's layers with untrained filters, a control",
}
FORMATS = {
    "texnet-generator-1": "a generator of an older texnet, which this one cannot apply",
    "texnet-images-1": "images that texnet optimize made, each with its start",
    "texnet-descriptor-1": "weights of a descriptor that texnet distill made",
}
FACTS = {
    "final_objective": "objective of the last batch, all terms and weights",
    "torch": "PyTorch",
    "exemplar_sha256": "SHA-256 of the exemplar",
    IMPORTED: "imported from",
    IMPORTED_DIGEST: "SHA-256 of that",
    "normalisation": "scale and bias that it lacks",
    "statistics": "statistics of its normalisations",
    "texture": "texture loss of held-out samples",
    "sliced_wasserstein": "sliced Wasserstein distance of these to the exemplar",
    "pairwise_features": "mean distance of these from each other, in features",
    "vendi": "Vendi score, how many of these eight are different",
}
"""Metadata that have a name of their own in a card; others are shown as they are."""
CITATION = """\
@inproceedings{ulyanov2017improved,
  title     = {Improved Texture Networks: Maximizing Quality and Diversity in Feed-forward
               Stylization and Texture Synthesis},
  author    = {Ulyanov, Dmitry and Vedaldi, Andrea and Lempitsky, Victor},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2017}
}"""


def is_imported(header: Header) -> bool:
    """Whether texnet converted what others had trained."""
    return IMPORTED in header.metadata


def parameter_count(header: Header) -> int:
    """Numbers that were trained: running statistics do not count."""
    return sum(
        math.prod(shape)
        for name, (_, shape) in header.tensors.items()
        if name.rpartition(".")[2] not in BUFFERS
    )


def describe(path: Path) -> str:
    """A safetensors file as Markdown: of a generator its card, else format, tensors, metadata.

    Raises:
        MissingError, DataError: no such file; not safetensors, or damaged.
    """
    header = read_header(path)
    kind = header.metadata.get("format", "")
    if kind == GENERATOR:
        return card(path)
    said = FORMATS.get(kind, f"format '{clean(kind)}'" if kind else "no format of texnet")
    count = sum(math.prod(shape) for _, shape in header.tensors.values())
    tensors = [
        (f"`{clean(name)}`", f"{kind} {'x'.join(map(str, shape)) or 'a number'}")
        for name, (kind, shape) in sorted(header.tensors.items())
    ]
    if len(tensors) > ROWS:
        tensors[ROWS:] = [(f"and {len(tensors) - ROWS} more", "")]
    metadata = [(clean(k), clean(v)) for k, v in sorted(header.metadata.items()) if k != DIGEST]
    parts = [
        f"# {clean(path.name)}",
        f"A safetensors file: {said}. Its tensors hold {count:,} numbers.",
        *section("Metadata", metadata),
        *section("Tensors", tensors),
    ]
    return "\n\n".join(parts) + "\n"


def card(path: Path, picture: str | None = None, files: Mapping[str, str] | None = None) -> str:
    """The model card of a generator, in Markdown.

    Args:
        path: the generator, as ``texnet train`` writes it; commands name it as it is named.
        picture: a picture to show, as the card links to it.
        files: what lies beside the generator, by name, and what each is.

    Raises:
        MissingError, DataError: no such file; damaged, or no generator.
    """
    run, header = run_of(path), read_header(path)
    style = run.images.reference[0]
    exemplar, label = [("exemplar", names([style]))], clean(label_of(style))
    made = "texture of" if isinstance(run.images, Texture) else "stylization after"
    parts = [
        f"# {run.name}: {made} {label}",
        summary(run, label),
        *([f"![{made} {label}]({picture})"] if picture else []),
        "## Use",
        commands(run, clean(path.name)),
        *section("Files", [(f"`{name}`", what) for name, what in (files or {}).items()]),
        *section("Network", network(run, parameter_count(header))),
        *section("Training", exemplar if is_imported(header) else training(run)),
        *section("Recorded with the weights", facts(header.metadata)),
        "## Limits",
        "\n".join(f"- {line}" for line in limits(run, is_imported(header))),
        "## Licence",
        licence(run, header),
        "## Citation",
        f"```bibtex\n{CITATION}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def section(title: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    """A heading and a table of two columns, or nothing where there are no rows."""
    lines = [f"| {key} | {value} |" for key, value in rows]
    return [f"## {title}", "\n".join(["| | |", "|---|---|", *lines])] if lines else []


def clean(text: str) -> str:
    """Text of a file, of which we know nothing, for one cell of a table."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = line if len(line) <= LONGEST else line[:LONGEST] + " ..."
    return line.replace("|", "\\|").replace("<", "&lt;")


def names(listed: Iterable[str]) -> str:
    """Images by name, files without their folders; not all of many."""
    shown = [clean(Path(name).name or name) for name in listed]
    if len(shown) > NAMES:
        shown[NAMES:] = [f"and {len(shown) - NAMES} more"]
    return ", ".join(shown)


def noisy(run: Training) -> bool:
    """Whether a run's generator takes noise."""
    g = run.generator
    return isinstance(g, TextureNetV2) or not (isinstance(g, SkipNet) or g.noise_channels == 0)


def summary(run: Training, exemplar: str) -> str:
    """What a generator does, in a sentence."""
    name = NETWORKS[type(run.generator)].partition(",")[0]
    if isinstance(run.images, Texture):
        return (
            f"A feed-forward network ({name}) that makes new samples of the texture of "
            f"*{exemplar}* from noise, each in one pass."
        )
    other = ", another picture for other noise" if noisy(run) else ""
    return (
        f"A feed-forward network ({name}) that redraws photographs in the style of "
        f"*{exemplar}*, each in one pass{other}."
    )


def commands(run: Training, name: str) -> str:
    """How to use the file, as commands of texnet."""
    file = shlex.quote(name)
    if isinstance(run.images, Texture):
        lines = [f"texnet sample {file} -n 4 --seed 1 -o samples"]
        if isinstance(run.generator, TextureNetV1):
            lines.append(f"texnet sample {file} --size 512x256 -o samples    # a tile")
    else:
        lines = [f"texnet stylize {file} photo.jpg -o stylized"]
        if noisy(run):
            lines.append(f"texnet stylize {file} photo.jpg -n 4 --seed 1 -o stylized")
    return "\n".join(["```", *lines, "```"])


def network(run: Training, parameters: int) -> Iterable[tuple[str, str]]:
    """The network, its normalisation, its noise, the sizes that it makes."""
    g, size = run.generator, run.images.size
    yield "architecture", NETWORKS[type(g)]
    settings = [f"width {g.width}"]
    if isinstance(g, StyleNet):
        settings += [f"{g.blocks} residual blocks", f"{g.upsampling} upsampling"]
    yield "settings", ", ".join(settings)
    yield "parameters", f"{parameters:,}"
    yield "normalisation", NORMS.get(g.norm, g.norm)
    if isinstance(g, TextureNetV2):
        yield "noise", f"z ~ N(0, I) of length {g.latent}; `--seed` draws another"
    elif isinstance(g, StyleNet | TextureNetV1) and g.noise_channels:
        where = "at each of six scales" if isinstance(g, TextureNetV1) else "beside the photograph"
        many = f"{g.noise_channels} channel{'s' if g.noise_channels > 1 else ''}"
        yield "noise", f"{many} of U(0, 1) {where}; `--seed` draws another"
    else:
        yield "noise", "none: the same photograph gives the same picture always"
    if isinstance(g, TextureNetV2):
        yield "sizes", f"{size}x{size} pixels alone"
    elif isinstance(run.images, Texture):
        yield "sizes", "any; multiples of 32 pixels tile, others are cropped from such and do not"
    else:
        multiple = {TextureNetV1: 32, SkipNet: 16}.get(type(g), 4)
        yield "sizes", f"any; inside, sides are padded to multiples of {multiple} and cropped again"


def training(run: Training) -> Iterable[tuple[str, str]]:
    """What a generator was trained on, for what, and how."""
    images, o = run.images, run.optimiser
    exemplar, side = images.reference
    yield "exemplar", f"{names([exemplar])}, longer side {side} pixels"
    if isinstance(images, Images):
        yield "content images", names(images.contents)
        yield "held-out images", names(images.heldout)
        many = "new ones each time" if images.crops is None else f"{images.crops} different ones"
        least = f"at least {images.crop_scale:g} of the shorter side"
        yield "crops", f"{images.size}x{images.size} pixels, of {least}, {many}"
    else:
        yield "samples", f"{images.size}x{images.size} pixels"
    pool = {"max": "max", "avg": "average"}[run.descriptor.pool]
    name = run.descriptor.name
    yield "descriptor", f"{name}: {DESCRIPTORS[name]}; {pool} pooling"
    yield from objective(run.objective)
    rate = f"learning rate {o.lr:g}, times {o.decay:g} every {o.decay_every:,} iterations"
    yield "optimiser", f"Adam, {o.iterations:,} iterations, batch of {o.batch}, {rate}"
    yield "seed", str(run.seed)
    yield "precision", run.acceleration.precision


def objective(wanted: Objective) -> Iterable[tuple[str, str]]:
    """The terms of an objective that count."""
    if wanted.style_weight:
        layers = ", ".join(wanted.style_layers)
        yield "texture loss", f"weight {wanted.style_weight:g}; {layers}"
    if wanted.content_weight:
        layers = ", ".join(wanted.content_layers)
        yield "content loss", f"weight {wanted.content_weight:g}; {layers}"
    if wanted.tv_weight:
        yield "total variation", f"weight {wanted.tv_weight:g}"
    if wanted.normalise_gradients:
        yield "gradients", "of each texture layer scaled to L1 norm 1 (section 5.1)"
    factors = f"lambda = {wanted.diversity_weight:g}, T = {wanted.temperature:g}"
    if wanted.diversity_weight:
        formula = "eq. 10" if wanted.convention == "paper" else "the authors' code for eq. 10"
        yield "diversity", f"{factors} ({formula}), distance of {wanted.diversity_distance}"
    elif wanted.temperature != 1:
        yield "diversity", f"{factors} (eq. 10)"


def facts(metadata: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """What else the metadata say."""
    for key, value in sorted(metadata.items()):
        if key not in ("format", "run"):
            own = "SHA-256 of the content" if key == DIGEST else FACTS.get(key)
            yield own or clean(key), clean(value)


def limits(run: Training, imported: bool) -> Iterable[str]:
    """What a generator does not do, or not well."""
    g, size = run.generator, run.images.size
    texture = isinstance(run.images, Texture)
    yield f"It knows one exemplar: another {'texture' if texture else 'style'} needs a training."
    trained = "" if imported else f" It was trained at {size}x{size} pixels."
    if texture:
        yield (
            "What the texture is made of keeps its size in pixels: a larger sample has more of it, "
            f"not more detail.{trained}"
        )
    else:
        yield (
            "Strokes keep their width in pixels: in a larger photograph they are finer beside what "
            f"it shows (`--size` shrinks it first).{trained}"
        )
        yield "It redraws what a photograph shows: not for pictures that must stay legible or true."
        if g.norm in ("instance", "instance_first"):
            yield "Instance normalisation discards the contrast of the photograph."
    coarsest = {TextureNetV1: 32, SkipNet: 16}.get(type(g))
    if g.norm == "instance" and coarsest:
        yield f"The longer side must have more than {coarsest} pixels."
    if imported:
        return
    if run.descriptor.name != "vgg19":
        yield (
            f"It was trained to look right to the descriptor {run.descriptor.name}, which is not "
            "the paper's VGG-19: neither quality nor objective compare with the paper's."
        )
    usual = {StyleNet: Optimiser(), TextureNetV1: V1_OPTIMISER if texture else None}.get(type(g))
    if usual and run.optimiser.iterations < usual.iterations / 2:
        yield (
            f"It was trained for {run.optimiser.iterations:,} iterations; the authors' commands "
            f"have {usual.iterations:,}."
        )
    if isinstance(g, TextureNetV2) and not run.objective.diversity_weight:
        yield "Trained without the diversity term, it may make one picture whatever its noise."


def ours(run: Training, header: Header) -> bool:
    """Whether the weights are texnet's to license: of its own exemplar, and of no user's images."""
    own = run.images.reference[0] in DRAWN and {*run.images.files} <= {*DRAWN, *PHOTOS}
    return own and not is_imported(header)


def licence(run: Training, header: Header) -> str:
    """Whose the weights are, and whose the exemplar."""
    exemplar = exemplar_licence(run.images.reference[0])
    if ours(run, header):
        return f"Weights: MIT, as texnet, which made them. {exemplar}"
    if not is_imported(header):
        return f"The weights belong to whoever trained them; texnet's code is MIT. {exemplar}"
    digest = header.metadata.get(IMPORTED_DIGEST)
    entries = (entry for several in registered().values() for entry in several)
    found = next((entry for entry in entries if entry.sha256 == digest), None)
    said = f": {clean(found.licence)} ({clean(found.source)})" if found else ""
    return f"Weights: of those who trained {clean(header.metadata[IMPORTED])}{said}. {exemplar}"


def exemplar_licence(exemplar: str) -> str:
    """Whose the exemplar is."""
    name, rights = clean(Path(exemplar).name or exemplar), "its rights remain with its owner"
    if exemplar in DRAWN:
        return f"The exemplar {name} is drawn by texnet, MIT too."
    if exemplar in PHOTOS:
        package = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
        inside = package[PHOTOS[exemplar].partition("/")[0]]
        return f"The exemplar {name} comes with {inside}: origin and licence in data/README.md."
    if exemplar in registered():
        entry = registered()[exemplar][0]
        return f"The exemplar {name}: {clean(entry.licence)} ({clean(entry.source)}); {rights}."
    return f"The exemplar {name} is a file of whoever trained this; {rights}."
