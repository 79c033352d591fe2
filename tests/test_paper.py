"""The paper's scale: what config/paper.yaml says, and that its DAG is whole."""

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, snakemake

from texnet import config
from texnet.artifacts import write_json
from texnet.errors import MissingError
from texnet.exemplars import EXEMPLARS
from texnet.experiment import Experiment
from texnet.fetch import fetch
from texnet.registry import DRAWN, PHOTOS, registered
from texnet.tables import read_table
from texnet.training import objective_of, train

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def merged(base, change):
    both = {
        key: merged(base[key], value)
        if isinstance(value, dict) and isinstance(base.get(key), dict)
        else value
        for key, value in change.items()
    }
    return {**base, **both}


def scale(*names):
    content = {}
    for name in ("config", *names):
        content = merged(content, yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()))
    return config.parse(Experiment, content, "configuration")


@pytest.fixture(scope="module")
def paper():
    return scale("paper")


def test_numbers_that_the_sources_give(paper):
    """Paper section 5; authors' README and train.lua; their v1 branch."""
    runs = paper.all_runs()
    assert len(paper.seeds) == 3
    assert {run.descriptor.name for run in runs.values()} == {"vgg19"}
    style = runs["stylenet_in_seed0"]
    assert style.generator == config.StyleNet()
    assert (style.objective.style_weight, style.objective.content_weight) == (10, 1)
    assert style.objective.style_layers == ("relu1_2", "relu2_2", "relu3_2", "relu4_2")
    assert (style.optimiser.iterations, style.optimiser.batch) == (50_000, 4)
    assert (style.optimiser.decay, style.optimiser.decay_every) == (0.8, 2000)
    assert {runs[f"stylenet_{n}_512_seed0"].images.size for n in ("in", "bn", "diverse")} == {512}
    assert runs["stylenet_in_512_seed0"].images.style_size == 600
    diverse = runs["stylenet_diverse_seed1"]
    assert (diverse.objective.temperature, diverse.objective.diversity_weight) == (10_000, 1)
    assert diverse.objective.convention == "authors_code"
    assert diverse.generator.noise_channels == 3
    texture = runs["v2_brick_wall_seed0"]
    assert texture.images.size == 256
    assert texture.generator.latent == 256
    assert texture.objective.style_layers == tuple(f"relu{block}_1" for block in range(1, 6))
    assert texture.objective.normalise_gradients
    assert texture.optimiser.batch == 16
    assert {5, 10, 20} < set(paper.textures.swept.values())
    assert min(run.evaluations for run in runs.values() if hasattr(run, "evaluations")) >= 500
    larger, largest = (paper.optimisation(f"gatys_{key}", 0) for key in ("larger", "largest"))
    assert (larger.images.heldout_size, largest.images.heldout_size) == (512, 1024)


def test_every_image_has_a_name_that_stands_for_something(paper):
    for run in paper.all_runs().values():
        for name in run.images.files:
            assert name in {*PHOTOS, *EXEMPLARS, *registered()}, name


def test_drawn_exemplars_are_known_without_drawing():
    assert set(DRAWN) == set(EXEMPLARS)


@pytest.mark.parametrize("name", ["config", "paper", "vgg19"])
def test_crops_of_the_exemplars_differ(name):
    """Diversity is held against them: of an exemplar no larger than a sample they would be one."""
    textures = scale(*([] if name == "config" else [name])).textures
    assert textures.exemplar_size >= 2 * textures.size


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("images={style: starry_nigt}", "'starry_nigt', which is no image and no file; did you"),
        ("images={style: bsds500_train}", "'bsds500_train', a set of images, where one is wanted"),
        ("images={contents: [bsds500_trian]}", "did you mean 'bsds500_train'?"),
    ],
)
def test_a_wrong_name_is_refused_before_anything_runs(change, says):
    ran = snakemake("-n", "figures/fig3.pdf", "--config", change)
    assert ran.returncode == 1
    assert says in ran.stdout + ran.stderr


def test_a_name_of_the_registry_is_a_descriptors_weights(tmp_path, monkeypatch):
    """What Snakemake fetches under a name, the training reads under it."""
    monkeypatch.setenv("TEXNET_CACHE", str(tmp_path))
    named = config.Descriptor("vgg19", weights="vgg19_exact")
    assert config.weights_file(named) == tmp_path / "vgg19_exact.sha256"
    run = scale("vgg19").training("stylenet_in", 0)
    run = dataclasses.replace(run, descriptor=named)
    with pytest.raises(
        MissingError, match=r"vgg19_exact\.sha256: no such file; texnet fetch vgg19_"
    ):
        objective_of(run, torch.device("cpu"))


def test_content_and_heldout_images_come_from_different_names(paper):
    images = paper.images
    assert not set(images.contents) & set(images.heldout)
    assert set(images.contents) == {"bsds500_train", "bsds500_test"}


def test_one_iteration_is_one_iteration_of_every_run(paper):
    started = scale("paper", "one_iteration").all_runs()
    assert set(started) == {name for name in paper.all_runs() if name.endswith("seed0")} | {
        name for name in started if name.endswith("seed100")
    }
    for name, run in started.items():
        if isinstance(run, config.Training):
            assert run.optimiser.iterations == 1, name
            assert run.images.size == paper.all_runs()[name].images.size
            assert run.generator == paper.all_runs()[name].generator
        else:
            assert run.evaluations == 2, name


@pytest.mark.parametrize("name", ["paper", "vgg19"])
def test_dry_run_is_clean(name, tmp_path, monkeypatch):
    """Nothing is fetched for it; every figure and table has its rule."""
    monkeypatch.setenv("TEXNET_CACHE", str(tmp_path))
    ran = snakemake("-n", "all", "--configfile", f"config/{name}.yaml")
    assert ran.returncode == 0, ran.stderr
    assert "fetch" in ran.stdout
    # The authors' network is measured where its exemplar is one of the configuration's.
    assert ("results/scores/released_red_peppers.csv" in ran.stdout) == (name == "vgg19")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not SHARED.is_dir(), reason="no folder of real weights beside the project")
def test_real_weights_and_photographs_are_fetched_and_trained_with(tmp_path, monkeypatch):
    """One iteration of the paper's StyleNet with VGG-19 and BSDS500, at 32 pixels."""
    monkeypatch.setenv("TEXNET_CACHE", str(tmp_path / "cache"))
    names = ("vgg19", "bsds500_train", "starry_night", "tubingen")
    for name in names:
        assert fetch(name, [str(SHARED)]).is_file()
    run = config.Training(
        name="real",
        seed=0,
        descriptor=config.Descriptor("vgg19"),
        generator=config.StyleNet(),
        objective=config.Objective(),
        optimiser=config.Optimiser(iterations=1, batch=2),
        images=config.Images(
            style="starry_night",
            style_size=64,
            size=32,
            heldout_size=32,
            contents=("bsds500_train",),
            heldout=("tubingen",),
        ),
    )
    write_json(tmp_path / "run.json", config.to_json(run))
    train(run, tmp_path / "model.safetensors", torch.device("cpu"))
    (row,) = read_table(tmp_path / "history.csv")
    # Untrained noise is far from the style: hundreds of times as far as a trained generator.
    assert 1e5 < float(row["texture"]) < 1e9
    assert 1e4 < float(row["content"]) < 1e7
    assert len(list((tmp_path / "cache/bsds500/train").iterdir())) == 200
