"""Model cards say what a file holds, all of it, and nothing that it does not hold."""

import json
import re
import shlex
import sys

import pytest
import torch
import yaml
from conftest import ROOT, call

from texnet import cards, config, generators
from texnet.__main__ import parser
from texnet.artifacts import read_tensors, write_tensors
from texnet.errors import DataError, MissingError
from texnet.training import save_generator

STYLIZATION = {
    "style": "swirls", "style_size": 160, "size": 64, "heldout_size": 80, "crop_scale": 0.7,
    "contents": ["rocket", "coffee"], "heldout": ["chelsea"],
}  # fmt: skip
TEXTURE = {"exemplar": "berries", "exemplar_size": 96, "size": 64}
DESCRIBED = {
    "name": "painted_cats",
    "seed": 41,
    "descriptor": {"name": "vgg19_lite", "pool": "avg"},
    "optimiser": {"iterations": 1234, "batch": 3, "lr": 0.004, "decay": 0.7, "decay_every": 321},
}
OBJECTIVE = {"style_layers": ["relu1_1", "relu3_2"], "content_layers": ["relu4_2"],
             "style_weight": 12.5, "content_weight": 3.5}  # fmt: skip


def saved(path, generator, images=STYLIZATION, objective=None, metadata=None, **changes):
    """A generator's file, untrained; returns its network and its run."""
    texture = {"content_weight": 0} if "exemplar" in images else {}
    described = DESCRIBED | {
        "generator": generator, "images": images,
        "objective": OBJECTIVE | texture | (objective or {}), **changes,
    }  # fmt: skip
    run = config.parse(config.Training, described, "test")
    net = generators.build(run.generator, 0, run.images)
    save_generator(path, net, run, final_objective=76.5)
    if metadata:
        tensors, there = read_tensors(path)
        write_tensors(path, tensors, there | metadata)
    return net, run


def tables(card):
    """Rows of the tables of a card by their first cell, by section."""
    found = {}
    for section in card.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        cells = [re.split(r"(?<!\\)\|", line) for line in text.splitlines() if line[:1] == "|"]
        assert all(len(row) == 4 and row[0] == row[3] == "" for row in cells), title
        found[title] = {row[1].strip(): row[2].strip() for row in cells[2:]}
    return found


GENERATORS = {
    "stylenet": ({"width": 4, "blocks": 2, "upsampling": "bilinear"}, STYLIZATION),
    "noisy": ({"width": 4, "blocks": 1, "noise_channels": 2, "norm": "batch"}, STYLIZATION),
    "lrn": ({"width": 4, "blocks": 1, "norm": "lrn_first"}, STYLIZATION),
    "skip": ({"name": "skip", "width": 2}, STYLIZATION),
    "v1": ({"name": "texturenet_v1", "width": 3, "noise_channels": 1}, TEXTURE),
    "v1_stylization": ({"name": "texturenet_v1", "width": 3, "norm": "instance"}, STYLIZATION),
    "v2": ({"name": "texturenet_v2", "width": 2, "latent": 17, "norm": "batch"}, TEXTURE),
}


@pytest.mark.parametrize("name", GENERATORS)
def test_a_card_holds_the_run(tmp_path, name):
    generator, images = GENERATORS[name]
    file = tmp_path / "the cats.safetensors"
    net, run = saved(file, generator, images)
    card = cards.describe(file)
    assert card == cards.card(file)
    texture, found = images is TEXTURE, tables(card)
    title = f"# painted_cats: {'texture of berries' if texture else 'stylization after swirls'}\n"
    assert card.startswith(title)
    network, training = found["Network"], found["Training"]
    assert network["architecture"].startswith(type(net).__name__)
    assert network["parameters"] == f"{sum(w.numel() for w in net.parameters()):,}"
    assert f"width {run.generator.width}" in network["settings"]
    names = {"instance": "instance", "batch": "batch", "lrn_first": "batch"}
    assert network["normalisation"].startswith(names[run.generator.norm])
    if name == "stylenet":
        assert network["settings"] == "width 4, 2 residual blocks, bilinear upsampling"
    wanted = {
        "noisy": "2 channels of U(0, 1)", "v1": "1 channel of U(0, 1) at each of six scales",
        "v1_stylization": "3 channels of U(0, 1)", "v2": "z ~ N(0, I) of length 17",
    }  # fmt: skip
    assert network["noise"].startswith(wanted.get(name, "none: the same photograph"))
    sizes = {"v1": "any; multiples of 32 pixels tile", "v2": "64x64 pixels alone"}
    multiple = {"skip": 16, "v1_stylization": 32}.get(name, 4)
    assert network["sizes"].startswith(sizes.get(name, "any; inside, sides are padded to mul"))
    assert name in sizes or f"multiples of {multiple} " in network["sizes"]
    exemplar = ("berries", 96) if texture else ("swirls", 160)
    assert training.pop("exemplar") == "{}, longer side {} pixels".format(*exemplar)
    assert training.pop("texture loss") == "weight 12.5; relu1_1, relu3_2"
    assert training.pop("descriptor").startswith("vgg19_lite: ")
    assert training.pop("optimiser") == (
        "Adam, 1,234 iterations, batch of 3, learning rate 0.004, times 0.7 every 321 iterations"
    )
    assert (training.pop("seed"), training.pop("precision")) == ("41", "fp32")
    if texture:
        assert training == {"samples": "64x64 pixels"}
    else:
        assert training == {
            "content images": "rocket, coffee",
            "held-out images": "chelsea",
            "crops": "64x64 pixels, of at least 0.7 of the shorter side, new ones each time",
            "content loss": "weight 3.5; relu4_2",
        }
    facts = found["Recorded with the weights"]
    assert facts["objective of the last batch, all terms and weights"] == "76.5"
    assert facts["PyTorch"] == torch.__version__
    assert not re.search(r"None|null|nan|\{|\}\n", card.partition("```bibtex")[0])
    assert not any(cell == "" for rows in found.values() for cell in rows.values())


@pytest.mark.parametrize("name", GENERATORS)
def test_its_commands_are_such(tmp_path, name):
    generator, images = GENERATORS[name]
    file = tmp_path / "my cats; 1.safetensors"
    saved(file, generator, images)
    _, commands, *_ = cards.card(file).split("```")
    parsed = []
    for line in commands.strip().splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "texnet"
        parsed.append(parser().parse_args(arguments))
    assert {args.model.name for args in parsed} == {file.name}
    assert {args.verb for args in parsed} == {"sample" if images is TEXTURE else "stylize"}
    # Noise is asked for where there is some.
    noisy = name in ("noisy", "v1", "v1_stylization", "v2")
    assert any(args.count > 1 for args in parsed) == noisy


@pytest.mark.parametrize(
    ("objective", "rows"),
    [
        ({"diversity_weight": 0.5, "temperature": 2e5},
         {"diversity": "lambda = 0.5, T = 200000 (eq. 10), distance of pixels"}),
        ({"diversity_weight": 1, "convention": "authors_code", "diversity_distance": "features"},
         {"diversity": "lambda = 1, T = 1 (the authors' code for eq. 10), distance of features"}),
        ({"temperature": 5}, {"diversity": "lambda = 0, T = 5 (eq. 10)"}),
        ({"tv_weight": 0.25, "normalise_gradients": True},
         {"total variation": "weight 0.25",
          "gradients": "of each texture layer scaled to L1 norm 1 (section 5.1)"}),
        ({"style_weight": 0}, {}),
    ],
)  # fmt: skip
def test_terms_that_count_are_named(tmp_path, objective, rows):
    file = tmp_path / "m.safetensors"
    saved(file, {"width": 2, "blocks": 1, "noise_channels": 1}, objective=objective)
    training = tables(cards.card(file))["Training"]
    optional = ("diversity", "total variation", "gradients")
    assert {key: value for key, value in training.items() if key in optional} == rows
    assert ("texture loss" in training) == ("style_weight" not in objective)


def test_long_lists_and_paths_are_shortened(tmp_path):
    contents = [f"/home/somebody/{i}.jpg" for i in range(30)]
    images = STYLIZATION | {
        "style": "/home/somebody/my style.png",
        "contents": contents,
        "crops": 9,
    }
    file = tmp_path / "m.safetensors"
    saved(file, {"width": 2, "blocks": 1}, images)
    card = cards.card(file)
    assert "somebody" not in card and str(tmp_path) not in card
    training = tables(card)["Training"]
    shown = ", ".join(f"{i}.jpg" for i in range(cards.NAMES))
    assert training["content images"] == f"{shown}, and {30 - cards.NAMES} more"
    assert training["crops"].endswith(", 9 different ones")
    assert card.startswith("# painted_cats: stylization after my style\n")


@pytest.mark.parametrize(
    ("exemplar", "says"),
    [
        ("swirls", "The exemplar swirls is drawn by texnet, MIT too."),
        ("coffee", "The exemplar coffee comes with scikit-image: origin and licence in data/"),
        ("china", "The exemplar china comes with scikit-learn"),
        ("wave", "The exemplar wave: Hokusai ca. 1831: print in the public domain"),
        ("mine/cat.png", "The exemplar cat.png is a file of whoever trained this; its rights rem"),
    ],
)
def test_rights(tmp_path, exemplar, says):
    file = tmp_path / "m.safetensors"
    saved(file, {"width": 2, "blocks": 1}, STYLIZATION | {"style": exemplar, "contents": ["ihc"]})
    licence = cards.card(file).partition("\n## Licence\n")[2].partition("\n## ")[0]
    assert says in licence
    mit = "Weights: MIT, as texnet, which made them." in licence
    theirs = "The weights belong to whoever trained them; texnet's code is MIT." in licence
    assert (mit, theirs) == ((True, False) if exemplar == "swirls" else (False, True))


@pytest.mark.parametrize("key", ["contents", "heldout"])
@pytest.mark.parametrize("name", ["mine.jpg", "./coffee", "bsds500_train"])
def test_weights_of_images_that_are_not_the_projects_are_their_trainers(tmp_path, key, name):
    file = tmp_path / "m.safetensors"
    saved(file, {"width": 2, "blocks": 1}, STYLIZATION | {key: [name]})
    assert "The weights belong to whoever trained them" in cards.card(file)


def test_an_imported_generator(tmp_path):
    """Of its training no more is said than is known."""
    file = tmp_path / "m.safetensors"
    digest = "d5962d1232e187cbe5540c7d9bdb4140d25d294f42d5db7149757401e2890256"
    metadata = {"imported_from": "peppers.t7", "imported_sha256": digest}
    saved(file, GENERATORS["v1"][0], TEXTURE | {"exemplar": "red_peppers"}, metadata=metadata)
    card = cards.card(file)
    found = tables(card)
    assert found["Training"] == {"exemplar": "red_peppers"}
    assert found["Recorded with the weights"]["imported from"] == "peppers.t7"
    assert "1,234" not in card and "64x64" not in card and "vgg19" not in card
    assert "Weights: of those who trained peppers.t7: Apache-2.0 (DmitryUlyanov/" in card


def test_what_else_the_metadata_say_is_shown_and_harmless(tmp_path):
    file = tmp_path / "m.safetensors"
    hostile = "a|b\n# c <script> \x1b[31m " + "x" * 1000
    saved(file, {"width": 2, "blocks": 1}, metadata={
        "seconds": "12.5", "exemplar_sha256": "ab" * 32, "source": hostile, "k|e\ny": "v",
    })  # fmt: skip
    card = cards.card(file)
    facts = tables(card)["Recorded with the weights"]
    assert facts["seconds"] == "12.5"
    assert facts["SHA-256 of the exemplar"] == "ab" * 32
    assert (
        facts["source"].startswith(r"a\|b # c &lt;script> [31m xxx") and len(facts["source"]) < 500
    )
    assert facts[r"k\|e y"] == "v"
    assert "\x1b" not in card


def test_limits(tmp_path):
    """What a reader must know of this one and not of others."""

    def limits(*given, **more):
        saved(tmp_path / "m.safetensors", *given, **more)
        card = cards.card(tmp_path / "m.safetensors")
        return card.partition("\n## Limits\n")[2].partition("\n## ")[0]

    style = limits({"width": 2, "blocks": 1})
    assert "trained at 64x64 pixels" in style and "discards the contrast" in style
    assert "descriptor vgg19_lite, which is not" in style
    assert "for 1,234 iterations; the authors' commands have 50,000" in style
    long = DESCRIBED["optimiser"] | {"iterations": 40000}
    paper = limits({"width": 2, "blocks": 1, "norm": "batch"}, optimiser=long,
                   descriptor={"name": "vgg19"})  # fmt: skip
    assert "contrast" not in paper and "descriptor" not in paper and "authors" not in paper
    skip = limits({"name": "skip", "width": 2})
    assert "longer side must have more than 16 pixels" in skip
    v2 = {"name": "texturenet_v2", "width": 2, "latent": 8}
    assert "may make one picture whatever its noise" in limits(v2, TEXTURE)
    assert "whatever its noise" not in limits(v2, TEXTURE, {"diversity_weight": 1})


def test_the_citation_is_the_papers(tmp_path):
    paper = yaml.safe_load((ROOT / "CITATION.cff").read_text())["preferred-citation"]
    saved(tmp_path / "m.safetensors", {"width": 2, "blocks": 1})
    cited = " ".join(cards.card(tmp_path / "m.safetensors").partition("```bibtex")[2].split())
    assert f"{{{paper['title']}}}" in cited and f"{{{paper['year']}}}" in cited
    authors = [f"{each['family-names']}, {each['given-names']}" for each in paper["authors"]]
    assert f"{{{' and '.join(authors)}}}" in cited


# Other files


def test_other_files_are_described(tmp_path):
    file = tmp_path / "images.safetensors"
    tensors = {f"chelsea/{i}": torch.zeros(3, 8, 6) for i in range(50)} | {"one": torch.tensor(1.0)}
    write_tensors(file, tensors, {"format": "texnet-images-1", "run": "gatys", "start": "noise"})
    text = cards.describe(file)
    assert text.startswith("# images.safetensors\n") and "images that texnet optimize made" in text
    assert f"hold {50 * 144 + 1:,} numbers" in text
    found = tables(text)
    assert found["Metadata"] == {"format": "texnet-images-1", "run": "gatys", "start": "noise"}
    assert len(found["Tensors"]) == cards.ROWS + 1 and "and 11 more" in found["Tensors"]
    assert found["Tensors"]["`chelsea/0`"] == "F32 3x8x6"
    lite = cards.describe(ROOT / "data" / "vgg19_lite.safetensors")
    assert "weights of a descriptor that texnet distill made" in lite
    assert tables(lite)["Tensors"]["`conv1_1.weight`"] == "F16 16x3x3x3"
    for metadata, says in (({}, "no format of texnet"), ({"format": "pt"}, "format 'pt'")):
        write_tensors(
            file, {"a": torch.zeros(2, dtype=torch.bfloat16), "b": torch.tensor(1)}, metadata
        )
        text = cards.describe(file)
        assert says in text
        assert tables(text)["Tensors"] == {"`a`": "BF16 2", "`b`": "I64 a number"}
        assert ("Metadata" in tables(text)) == bool(metadata)


def test_damage_is_told(tmp_path):
    file = tmp_path / "m.safetensors"
    with pytest.raises(MissingError, match="no such file"):
        cards.describe(file)
    _, run = saved(file, {"width": 2, "blocks": 1})
    whole = file.read_bytes()
    for content, says in (
        (whole[:-1] + bytes([whole[-1] ^ 1]), "is damaged"),
        (whole[:-9], "cannot be read as safetensors"),
        (b"no tensors", "cannot be read as safetensors"),
        (b"", "cannot be read as safetensors"),
    ):
        file.write_bytes(content)
        with pytest.raises(DataError, match=says):
            cards.describe(file)
        with pytest.raises(DataError, match=says):
            cards.card(file)
    write_tensors(file, {"a": torch.zeros(1)}, {"format": "texnet-images-1"})
    with pytest.raises(DataError, match="no generator"):
        cards.card(file)
    described = json.dumps(config.to_json(run))[:-1]
    write_tensors(file, {"a": torch.zeros(1)}, {"format": "texnet-generator-2", "run": described})
    with pytest.raises(DataError, match="describe no run"):
        cards.describe(file)


def test_cards_do_without_pytorch(tmp_path):
    saved(tmp_path / "m.safetensors", {"width": 2, "blocks": 1})
    code = "import sys; from pathlib import Path; from texnet.cards import describe; "
    code += "describe(Path(sys.argv[1])); sys.exit('torch' in sys.modules)"
    assert call(sys.executable, "-c", code, tmp_path / "m.safetensors").returncode == 0
