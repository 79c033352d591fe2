"""A full disk at each kind of write, and bits that flip: said in one line, nothing half written.

The disk is a file system in memory of half a megabyte, filled before the file in question is
written. Space is made, the same command given again, and it ends as if nothing had happened.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import call
from lives import COMMANDS, ITERATIONS, contents, gone_on_after, until

from texnet import checkpoints
from texnet.__main__ import main
from texnet.artifacts import read_json, write_json
from texnet.errors import DataError


@pytest.fixture
def disk(workshop):
    """A small file system at ``out`` of the workshop."""
    folder, nursery = workshop
    nursery.settle()
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "texnet", out], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a file system of one's own needs root: {mounted.stderr.strip()}")
    yield out
    nursery.settle()
    subprocess.run(["umount", "--lazy", out], check=True)


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("train", "checkpoint-*.new"),
        ("train", "history.csv"),
        ("train", "samples.png"),
        ("train", "model.safetensors"),
        ("optimize", "checkpoint-*.new"),
        ("optimize", "history.csv"),
        ("optimize", "images.safetensors"),
    ],
)
def test_full_disk_while_computing(workshop, undisturbed, disk, command, file):
    folder, nursery = workshop
    assert nursery.run(*COMMANDS[command], fill=file) == 74
    (line,) = [x for x in (folder / "log").read_text().splitlines() if "error" in x]
    assert "No space left on device" in line and "free some space" in line and "out/" in line
    assert not [p for p in disk.rglob(".*") if p.suffix == ".part"]
    (disk / "filler").unlink()
    whole = undisturbed[command][0]
    for path in disk.iterdir():  # what is there is whole
        if path.name in whole:
            assert contents(disk)[path.name] == whole[path.name]
    assert nursery.run(*COMMANDS[command]) == 0, (folder / "log").read_text()
    if command == "train" and not file.startswith("checkpoint"):
        assert gone_on_after(folder / "log") == ITERATIONS
    assert contents(disk) == whole


def test_a_folder_that_may_not_be_written(workshop, disk):
    """Said before the training, not after it."""
    folder, nursery = workshop
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for command in COMMANDS.values():
        assert nursery.run(*command) == 74
        (line,) = (folder / "log").read_text().splitlines()
        assert "cannot be written (Read-only file system)" in line


def test_times_in_the_future(workshop, undisturbed):
    """Of the run, and of a checkpoint; nothing that a training does hangs on a clock."""
    folder, nursery = workshop
    shutil.rmtree(folder / "out", ignore_errors=True)
    nursery.start(*COMMANDS["train"], pause=0.05)
    until(lambda: list((folder / "out").glob("checkpoint-*.previous")))
    nursery.kill()
    nursery.end()
    for path in (folder / "train.json", *(folder / "out").iterdir()):
        os.utime(path, (2**32, 2**32))
    assert nursery.run(*COMMANDS["train"]) == 0
    assert gone_on_after(folder / "log") > 0
    assert contents(folder / "out") == undisturbed["train"][0]


TABLES = {
    "run.json": ("configure", "config.yaml", "-o", "out"),
    "scores.csv": ("score", "whole_train", "-o", "out/scores.csv"),
    "metrics.csv": ("metrics", "scores.csv", "-o", "out/metrics.csv"),
    "rocket.png": ("stylize", "whole_train/model.safetensors", "rocket", "-o", "out", "--size", 64),
    "swirls.png": ("exemplar", "swirls", "-o", "out/swirls.png", "--size", 64),
}


@pytest.mark.parametrize("file", TABLES)
def test_full_disk_while_writing_tables_and_pictures(workshop, undisturbed, disk, file):
    folder, nursery = workshop
    shutil.copy(folder / "train.json", folder / "whole_train/run.json")
    root = Path(__file__).parents[2]
    shutil.copy(root / "config/config.yaml", folder / "config.yaml")
    command = TABLES[file]
    if file == "metrics.csv":
        assert nursery.run("score", "whole_train", "-o", "scores.csv") == 0
    assert nursery.run(*command, fill=file) == 74, (folder / "log").read_text()
    (line,) = (folder / "log").read_text().splitlines()
    assert "No space left on device" in line and "free some space" in line
    for filler in disk.rglob("filler"):
        filler.unlink()
    assert not [p for p in disk.rglob("*") if p.is_file() and p.name in (file, f".{file}")]
    if file == "run.json":  # some hundred of them are more than this disk holds
        return
    assert nursery.run(*command) == 0, (folder / "log").read_text()
    assert list(disk.rglob(file))


FIGURE = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from figures import style
import matplotlib.pyplot as plt
from victims import filling
from texnet.process import program
filling(sys.argv[3])
figure, axes = plt.subplots()
axes.plot([1, 2])
program(lambda: style.save(figure, Path("out/fig.pdf")))
"""


@pytest.mark.parametrize("file", ["fig.pdf", "fig.png", "nothing"])
def test_full_disk_while_drawing(workshop, disk, file):
    folder, _ = workshop
    root, here = Path(__file__).parents[2], Path(__file__).parent
    done = call("python", "-c", FIGURE, root, here, file, cwd=folder, PYTHONPATH=str(root))
    if file == "nothing":
        assert done.returncode == 0 and {p.name for p in disk.iterdir()} == {"fig.pdf", "fig.png"}
        return
    assert done.returncode == 74
    assert done.stderr.count("\n") == 1 and "No space left on device" in done.stderr
    assert not (disk / file).exists() and not list(disk.glob(".*.part"))


def test_a_log_on_a_full_disk_changes_nothing(workshop, undisturbed):
    """Neither what is made nor the code of a mistake, where no line can be written."""
    folder, _ = workshop
    shutil.rmtree(folder / "out", ignore_errors=True)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    for command, code in ((COMMANDS["train"], 0), (("train", "nothing.json", "out/x"), 66)):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "texnet", *command], cwd=folder, env=env, stderr=full
            )
        assert done.returncode == code
    assert contents(folder / "out") == undisturbed["train"][0]


def flipped(content, rng):
    spoilt = bytearray(content)
    spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def silent(path, whole, count, read):
    """How many of some files with one flipped bit are read as if nothing were."""
    rng, content, missed = random.Random(0), whole.read_bytes(), []
    for _ in range(count):
        path.write_bytes(spoilt := flipped(content, rng))
        try:
            read()
        except DataError:
            continue
        missed.append(next(i for i, byte in enumerate(content) if spoilt[i] != byte))
    return missed


FLIPS = [pytest.param(60), pytest.param(1000, marks=pytest.mark.long)]


@pytest.mark.parametrize("count", FLIPS)
@pytest.mark.parametrize("name", ["whole_train/model", "whole_optimize/images"])
def test_a_flipped_bit_in_weights_and_images(workshop, undisturbed, tmp_path, name, count):
    """Not one is read, but for flips in the digest's own name: what it guards is whole then."""
    from texnet.artifacts import read_tensors

    path, whole = tmp_path / "spoilt.safetensors", workshop[0] / f"{name}.safetensors"
    content = whole.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    name_of_digest = content.index(b'"sha256"', 0, end)
    missed = silent(path, whole, count, lambda: read_tensors(path))
    assert all(0 <= at - name_of_digest < 8 for at in missed)


@pytest.mark.parametrize("count", FLIPS)
def test_a_flipped_bit_in_a_checkpoint(tmp_path, count):
    """Refused, where there is no other."""
    state = {"net": {"w": torch.arange(300.0)}, "iteration": 3, "rows": [[1, 2.0, None]]}
    checkpoint = checkpoints.Checkpoint(tmp_path, {"run": {"lr": 0.1}}, torch.device("cpu"))
    checkpoint.save(state)
    whole = tmp_path / "whole"
    shutil.copy(checkpoint.path, whole)
    assert silent(checkpoint.path, whole, count, checkpoint.restore) == []


def test_a_model_edited_by_hand_is_refused_by_who_reads_it(workshop, undisturbed, capsys, tmp_path):
    """Its time unchanged, so that a workflow takes it for what was trained."""
    path = tmp_path / "model.safetensors"
    whole = workshop[0] / "whole_train/model.safetensors"
    content = bytearray(whole.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    os.utime(path, (whole.stat().st_atime, whole.stat().st_mtime))
    assert main(["stylize", str(path), "rocket", "-o", str(tmp_path / "out")]) == 65
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "model.safetensors: is damaged: sha256" in told
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_training_is_not_gone_on_with(workshop, undisturbed):
    """run.json was edited while its training was interrupted: begun anew, and said why."""
    folder, nursery = workshop
    shutil.rmtree(folder / "out", ignore_errors=True)
    run = read_json(folder / "train.json")
    longer = run | {"optimiser": run["optimiser"] | {"iterations": 60}}
    write_json(folder / "longer.json", longer)
    nursery.start("train", "longer.json", "out/model.safetensors", pause=0.05)
    until(lambda: list((folder / "out").glob("checkpoint-*.previous")))
    nursery.kill()
    nursery.end()
    assert nursery.run(*COMMANDS["train"]) == 0
    told = (folder / "log").read_text()
    found = f"is of another run.optimiser.iterations (60, here {ITERATIONS}): not taken; delete it"
    assert found in told
    assert gone_on_after(folder / "log") == 0
    left = contents(folder / "out")
    assert {n: v for n, v in left.items() if "checkpoint" not in n} == undisturbed["train"][0]
    assert json.loads((folder / "longer.json").read_text()) == longer
