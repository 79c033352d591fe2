"""Content images by name, set and folder; batches made ahead are those made in turn."""

import dataclasses
import hashlib
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from texnet import config, registry
from texnet.contents import Contents
from texnet.data import ContentCrops, load_image, read_image, write_image
from texnet.errors import DataError, MissingError, UsageError
from texnet.generators import StyleNet
from texnet.inputs import Inputs

CPU = torch.device("cpu")


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """A cache with a set of three images, as texnet fetch leaves it."""
    monkeypatch.setenv("TEXNET_CACHE", str(tmp_path))
    monkeypatch.setattr(registry, "registered", lambda: {"shots": [], "one": []})
    monkeypatch.setattr("texnet.contents.registered", lambda: {"shots": [], "one": []})
    monkeypatch.setattr("texnet.data.registered", lambda: {"shots": [], "one": []})
    lines = []
    for number in range(3):
        write_image(tmp_path / f"shots/{number}.png", torch.rand(3, 20 + number, 30))
        content = (tmp_path / f"shots/{number}.png").read_bytes()
        lines.append(f"{hashlib.sha256(content).hexdigest()}  shots/{number}.png\n")
    (tmp_path / "shots.sha256").write_text("".join(lines))
    (tmp_path / "one.sha256").write_text(lines[1])
    return tmp_path


def same(contents, images):
    return len(contents) == len(images) and all(map(torch.equal, contents, images))


def test_names_sets_and_folders_in_order(fetched):
    folder = fetched / "mine"
    write_image(folder / "b/x.png", torch.rand(3, 17, 18))
    write_image(folder / "a.png", torch.rand(3, 19, 16))
    expected = [
        load_image("rocket"),
        *(read_image(fetched / f"shots/{n}.png") for n in range(3)),
        read_image(folder / "a.png"),
        read_image(folder / "b/x.png"),
        read_image(fetched / "shots/1.png"),
    ]
    contents = Contents(["rocket", "shots", str(folder), "one"])
    assert same(contents, expected)
    assert same(contents, expected), "what is kept is what was read"


@pytest.mark.parametrize("room", [0, 20 * 30 * 3, 10**9])
def test_what_is_kept_fits_the_room_and_changes_no_value(fetched, room):
    contents = Contents(["shots"], room=room)
    twice = [[contents[i] for i in range(3)] for _ in range(2)]
    assert same(*twice)
    kept = sum(image.nbytes for image in contents.kept.values())
    assert kept <= room
    assert kept == {0: 0, 1800: 1800}.get(room, (20 + 21 + 22) * 30 * 3), "a byte a value"


def test_an_image_of_more_than_8_bits_is_kept_as_it_is(tmp_path):
    Image.new("I;16", (20, 20), 12345).save(tmp_path / "deep.png")
    contents = Contents([str(tmp_path)])
    first, again = contents[0], contents[0]
    assert torch.equal(first, again)
    assert abs(first[0, 0, 0].item() - 12345 / 65535) < 1e-7


def test_identity_follows_what_the_images_are(fetched):
    folder = fetched / "mine"
    write_image(folder / "a.png", torch.zeros(3, 16, 16))
    before = [Contents([n]).identity for n in ("rocket", "coffee", "shots", "one", str(folder))]
    assert len(set(before)) == 5
    assert before == [
        Contents([n]).identity for n in ("rocket", "coffee", "shots", "one", str(folder))
    ]
    write_image(folder / "b.png", torch.zeros(3, 16, 16))
    assert Contents([str(folder)]).identity != before[4]
    (folder / "b.png").rename(folder / "c.png")
    assert Contents([str(folder)]).identity != before[4]
    assert Contents(["rocket", "coffee"]).identity != Contents(["coffee", "rocket"]).identity


def test_a_heldout_image_among_the_contents_is_refused(fetched, monkeypatch):
    folder = fetched / "mine"
    write_image(folder / "a.png", torch.rand(3, 20, 20))
    write_image(fetched / "b.png", torch.rand(3, 20, 20))
    run = run_of((str(folder),))
    net = StyleNet(width=2, noise_channels=2)

    def with_heldout(*names):
        return dataclasses.replace(run, images=dataclasses.replace(run.images, heldout=names))

    Inputs(with_heldout(str(fetched / "b.png")), net, CPU)
    monkeypatch.chdir(folder)
    for name in (str(folder / "a.png"), "a.png", "../mine/a.png"):
        with pytest.raises(UsageError, match=r"heldout '.*a\.png' is among images.contents"):
            Inputs(with_heldout("chelsea", name), net, CPU)


def test_a_folder_does_not_hide_a_photograph(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "rocket/a.png", torch.rand(3, 20, 20))
    assert same(Contents(["rocket"]), [load_image("rocket")])
    assert len(Contents(["./rocket"])) == 1


def test_a_changed_bit_of_a_fetched_image_is_found(fetched):
    path = fetched / "shots/1.png"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    contents = Contents(["shots"])
    assert torch.equal(contents[0], read_image(fetched / "shots/0.png"))
    with pytest.raises(DataError, match=r"shots/1\.png: sha256 is .*restores it"):
        contents[1]
    with pytest.raises(DataError, match="sha256"):
        load_image("one")


def test_what_is_not_there_is_told(fetched):
    (fetched / "one.sha256").unlink()
    with pytest.raises(MissingError, match=r"one\.sha256: no such file; texnet fetch one makes it"):
        Contents(["one"])
    with pytest.raises(UsageError, match="'shots' is a set of 3 images"):
        load_image("shots")
    with pytest.raises(UsageError, match=r"unknown image 'nothing'.*texnet fetch --list"):
        Contents(["nothing"])
    (fetched / "empty").mkdir()
    with pytest.raises(MissingError, match=r"no \.png, \.jpg or \.jpeg file"):
        Contents([str(fetched / "empty")])


def test_crops_of_a_set_are_those_of_its_images(fetched):
    images = [read_image(fetched / f"shots/{n}.png") for n in range(3)]
    of_set = ContentCrops(Contents(["shots"], room=2000), 16, 4, seed=5)
    of_list = ContentCrops(images, 16, 4, seed=5)
    for iteration in (1, 2, 9):
        assert torch.equal(of_set(iteration), of_list(iteration))


def run_of(contents, noise_channels=2):
    return config.Training(
        name="style",
        seed=3,
        descriptor=config.Descriptor("random"),
        generator=config.StyleNet(width=2, blocks=1, noise_channels=noise_channels),
        objective=config.Objective(),
        optimiser=config.Optimiser(batch=3),
        images=config.Images(size=16, heldout_size=16, contents=contents, heldout=("chelsea",)),
    )


@pytest.mark.parametrize("loaders", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 3, 30])
def test_batches_made_ahead_are_the_same_in_the_same_order(fetched, loaders, count):
    inputs = Inputs(run_of(("shots", "coffee")), StyleNet(width=2, noise_channels=2), CPU)
    iterations = range(7, 7 + count)
    ahead = list(inputs.batches(iterations, loaders))
    assert len(ahead) == count
    for iteration, (content, noise) in zip(iterations, ahead, strict=True):
        wanted, z = inputs(iteration)
        assert torch.equal(content, wanted)
        assert same(noise, z)


def test_a_bad_image_ends_the_batches_and_their_threads(fetched):
    (fetched / "shots/2.png").write_bytes(b"no picture")
    inputs = Inputs(run_of(("shots",)), StyleNet(width=2, noise_channels=2), CPU)
    before = threading.active_count()
    with pytest.raises(DataError, match=r"shots/2\.png"):
        list(inputs.batches(range(100), 3))
    assert threading.active_count() == before


def test_large_images_are_shrunk(tmp_path):
    colours = torch.rand(3, 60, 90, generator=torch.Generator().manual_seed(0))
    write_image(tmp_path / "large.png", colours)
    write_image(tmp_path / "small.png", colours[:, :20, :25])
    contents = Contents([str(tmp_path), "rocket"], side=30)
    assert [tuple(image.shape[1:]) for image in contents] == [(30, 45), (20, 25), (30, 45)]
    halved = Image.open(tmp_path / "large.png").resize((45, 30), Image.Resampling.BILINEAR)
    wanted = torch.from_numpy(np.asarray(halved, dtype=np.float32)).permute(2, 0, 1) / 255
    assert (contents[0] - wanted).abs().max() <= 1.01 / 255
    assert torch.equal(contents[0], contents[0])
    assert torch.equal(contents[1], read_image(tmp_path / "small.png"))
    assert Contents([str(tmp_path)]).identity == Contents([str(tmp_path)], side=30).identity
