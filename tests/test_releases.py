"""Released generators stand for a training of the same run, and for no other."""

import dataclasses
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from experiments import experiment

from texnet import config
from texnet.__main__ import main
from texnet.artifacts import write_json, write_tensors
from texnet.config import Acceleration, to_json
from texnet.errors import DataError, MissingError
from texnet.releases import adopt, difference, released, run_of
from texnet.training import train

RUN = config.Training(
    name="net",
    seed=0,
    descriptor=config.Descriptor("random"),
    generator=config.StyleNet(width=4, blocks=1),
    objective=config.Objective(style_layers=("relu1_1",), content_layers=("relu1_1",)),
    optimiser=config.Optimiser(iterations=2, batch=1),
    images=config.Images(style="ihc", style_size=32, size=16, heldout_size=16),
)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    train(RUN, folder / "net_seed0" / "model.safetensors", torch.device("cpu"))
    return folder


def test_adopted_is_trained(release, tmp_path):
    """Model, history and samples are those of the training, to the byte."""
    write_json(tmp_path / "run.json", to_json(RUN))
    model, out = release / "net_seed0" / "model.safetensors", tmp_path / "out/model.safetensors"
    assert main(["adopt", str(tmp_path / "run.json"), str(model), str(out)]) == 0
    for name in ("model.safetensors", "history.csv", "samples.png"):
        assert (out.parent / name).read_bytes() == (model.parent / name).read_bytes(), name


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"seed": 1}, "seed"),
        ({"name": "other"}, "name"),
        ({"optimiser": dataclasses.replace(RUN.optimiser, lr=0.5)}, "optimiser.lr"),
        ({"generator": dataclasses.replace(RUN.generator, norm="none")}, "generator.norm"),
        ({"images": dataclasses.replace(RUN.images, contents=("coffee",))}, "images.contents"),
        ({"descriptor": config.Descriptor("random", pool="avg")}, "descriptor.pool"),
    ],
)
def test_another_run_is_refused_by_key(release, tmp_path, change, key):
    other = dataclasses.replace(RUN, **change)
    model = release / "net_seed0" / "model.safetensors"
    assert difference(model, other).startswith(f"{key} (")
    assert not released(release, "net_seed0", other)
    write_json(tmp_path / "run.json", to_json(other))
    with pytest.raises(DataError, match=rf"trained with another {key} \(.*set weights: train"):
        adopt(tmp_path / "run.json", model, tmp_path / "model.safetensors")
    assert not (tmp_path / "model.safetensors").exists()


def test_how_a_run_is_computed_does_not_matter(release):
    model = release / "net_seed0" / "model.safetensors"
    other = dataclasses.replace(
        RUN, device="cuda", threads=8, acceleration=Acceleration(precision="bf16")
    )
    assert difference(model, other) is None
    assert released(release, "net_seed0", other)
    assert not released(release, "net_seed1", other)


def test_what_is_no_release_is_refused(release, tmp_path):
    with pytest.raises(MissingError, match="no such file"):
        run_of(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no")
    with pytest.raises(DataError, match="cannot be read"):
        run_of(tmp_path / "text.safetensors")
    write_tensors(tmp_path / "other.safetensors", {"a": torch.ones(1)}, {"format": "x"})
    with pytest.raises(DataError, match="no generator"):
        run_of(tmp_path / "other.safetensors")
    model = tmp_path / "alone" / "model.safetensors"
    model.parent.mkdir()
    model.write_bytes((release / "net_seed0" / "model.safetensors").read_bytes())
    write_json(tmp_path / "run.json", to_json(RUN))
    with pytest.raises(MissingError, match=r"history\.csv"):
        adopt(tmp_path / "run.json", model, tmp_path / "model.safetensors")
    assert not (tmp_path / "model.safetensors").exists()


GENERATORS = sorted((ROOT / "expected/embedded/generators").iterdir())


def test_committed_generators_are_of_the_committed_configuration():
    """After a change of the configuration they are to be made anew (make expected)."""
    runs = experiment(scale="embedded").all_runs()
    assert len(GENERATORS) == 10
    for folder in GENERATORS:
        assert difference(folder / "model.safetensors", runs[folder.name]) is None, folder.name
        rows = (folder / "history.csv").read_text().splitlines()
        assert len(rows) == 1 + runs[folder.name].optimiser.iterations


def test_committed_generators_are_those_whose_metrics_are_kept():
    """The objective that a model's metadata state is that of its history's last line."""
    from texnet.artifacts import read_tensors

    for folder in GENERATORS:
        _, metadata = read_tensors(folder / "model.safetensors")
        last = (folder / "history.csv").read_text().splitlines()[-1].split(",")
        assert float(metadata["final_objective"]) == pytest.approx(float(last[2]), rel=1e-6)


def test_files_of_a_release_are_small_enough_to_be_carried():
    total = sum(path.stat().st_size for path in Path(ROOT / "expected").rglob("*.safetensors"))
    assert total < 12 * 2**20
