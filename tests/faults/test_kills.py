"""Killed at any instant, stopped by any signal, started twice: the same bytes in the end."""

import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from conftest import BIN, ROOT, TINY, copy_of_project
from lives import (
    COMMANDS,
    EVERY,
    ITERATIONS,
    RUN,
    contents,
    fresh,
    gone_on_after,
    progress,
    until,
)
from victims import Nursery

from texnet import checkpoints
from texnet.artifacts import sha256
from texnet.errors import UnfinishedError


def killed_and_resumed(workshop, undisturbed, name, seed):
    """One life: killed at a random instant, resumed, perhaps killed again, finished."""
    folder, nursery = workshop
    expected, seconds = undisturbed[name]
    out, instant, done, kills = fresh(workshop), random.Random(seed), 0, 0
    while True:
        nursery.start(*COMMANDS[name])
        time.sleep(instant.uniform(0, 1.1 * seconds))
        if kills < 3 and instant.random() < 0.7**kills:
            nursery.kill()
        code = nursery.end()
        went_on = gone_on_after(folder / "log")
        if code == 0 or went_on:  # it came so far as to take a checkpoint
            assert went_on >= done - EVERY
        if code == 0:
            break
        assert code == -signal.SIGKILL, (folder / "log").read_text()
        kills += 1
        made = contents(out) if out.exists() else {}
        if all(made.get(name) == what for name, what in expected.items()) and not list(
            out.glob("checkpoint-*")
        ):
            (out / ".texnet.lock").unlink(missing_ok=True)
            break  # it was killed after its end
        done = max(done, went_on, progress(folder / "log"))
    assert contents(out) == expected
    return kills


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("seed", range(5))
def test_killed_at_random_instants(workshop, undisturbed, name, seed):
    killed_and_resumed(workshop, undisturbed, name, seed)


@pytest.mark.long
def test_a_hundred_trainings_killed_at_random_instants(workshop, undisturbed, record_property):
    """Each is killed at least once; most are in the midst of training."""
    kills, lives = 0, 0
    for seed in itertools.count(1000):
        more = killed_and_resumed(workshop, undisturbed, "train", seed)
        kills, lives = kills + more, lives + bool(more)
        if lives == 100:
            break
    record_property("kills", kills)
    print(f"{lives} trainings, {kills} kills")


def changes(workshop, name):
    """How many changes to the file system a command makes."""
    folder, nursery = workshop
    fresh(workshop)
    assert nursery.run(*COMMANDS[name], die_at=0) == 0
    return int(re.search(r"(\d+) changes", (folder / "log").read_text())[1])


def killed_before(workshop, undisturbed, name, number):
    folder, nursery = workshop
    out = fresh(workshop)
    assert nursery.run(*COMMANDS[name], die_at=number) == -signal.SIGKILL
    for path in out.glob("*.safetensors"):
        assert sha256(path) == undisturbed[name][0][path.name]
    assert nursery.run(*COMMANDS[name]) == 0, (folder / "log").read_text()
    assert contents(out) == undisturbed[name][0]


def test_killed_before_a_change(workshop, undisturbed):
    """Three checkpoints' and three results' worth of them, drawn; all of them in the long test."""
    total = changes(workshop, "train")
    drawn = random.Random(0)
    for number in drawn.sample(range(total - 14, total + 1), 3) + drawn.sample(range(total), 3):
        killed_before(workshop, undisturbed, "train", number)


@pytest.mark.long
@pytest.mark.parametrize("name", COMMANDS)
def test_killed_before_every_change(workshop, undisturbed, name):
    for number in range(1, changes(workshop, name) + 1):
        killed_before(workshop, undisturbed, name, number)


SIGNALS = [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT]


@pytest.mark.parametrize("run", ["train", "loaded"])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
def test_stopped_by_a_signal(workshop, undisturbed, run, number, group):
    """After the iteration it makes a checkpoint, and says so; with and without loaders."""
    folder, nursery = workshop
    out = fresh(workshop)
    pid = nursery.start("train", f"{run}.json", "out/model.safetensors", pause=0.05)
    until(lambda: progress(folder / "log") >= 5)
    if group:
        os.killpg(pid, number)
    else:
        nursery.kill(number)
    if number == signal.SIGTERM:  # and once more
        nursery.kill(number)
    assert nursery.end() == 75
    line = (folder / "log").read_text().splitlines()[-1]
    told = rf"stopped by {number.name} after iteration (\d+) of {ITERATIONS}, which out/"
    stopped = re.search(told, line)
    assert stopped, line
    assert nursery.run("train", f"{run}.json", "out/model.safetensors") == 0
    assert gone_on_after(folder / "log") == int(stopped[1])
    if run == "train":
        assert contents(out) == undisturbed["train"][0]


@pytest.mark.parametrize("at", [4, 7, 9])
def test_stopped_while_it_saves(workshop, undisturbed, at):
    """In the midst of its first checkpoints: that one is finished, and the next is the last."""
    folder, nursery = workshop
    out = fresh(workshop)
    assert nursery.run(*COMMANDS["train"], die_at=at, signal=signal.SIGTERM) == 75
    assert "stopped by SIGTERM after iteration" in (folder / "log").read_text()
    assert nursery.run(*COMMANDS["train"]) == 0
    assert gone_on_after(folder / "log") > 0
    assert contents(out) == undisturbed["train"][0]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_an_optimisation_stops_at_once(workshop, undisturbed, number):
    """It keeps the images that it had finished."""
    folder, nursery = workshop
    out = fresh(workshop)
    assert nursery.run(*COMMANDS["optimize"], die_at=9, signal=number) == 75
    assert f"stopped by {number.name}; give the same" in (folder / "log").read_text()
    assert nursery.run(*COMMANDS["optimize"]) == 0
    assert contents(out) == undisturbed["optimize"][0]


def test_a_stop_is_never_taken_for_a_damaged_file(tmp_path, monkeypatch):
    """It comes while a checkpoint, an image or weights are read, each of which may be bad."""
    from texnet import data, descriptors, process

    cpu = torch.device("cpu")
    checkpoint = checkpoints.Checkpoint(tmp_path, {"run": 1}, cpu)
    checkpoint.save({"iteration": 1})
    photo, weights = tmp_path / "photo.png", tmp_path / "weights.pth"
    data.write_image(photo, torch.rand(3, 8, 8))
    torch.save({"conv1_1.weight": torch.rand(64, 3, 3, 3)}, weights)

    def stopping(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal was not obeyed")

    monkeypatch.setattr(torch, "load", stopping)
    monkeypatch.setattr(data.Image, "open", stopping)
    for read in (
        checkpoint.restore,
        lambda: data.read_image(photo),
        lambda: descriptors.load("vgg19", {"relu1_1"}, weights=weights),
    ):
        assert process.guarded("test", read) == UnfinishedError.code
    assert checkpoint.path.exists()


def test_two_of_one_training(workshop, undisturbed):
    """The second waits for the first, then does the same again."""
    folder, nursery = workshop
    out, other = fresh(workshop), Nursery(folder)
    assert other.run("schema", "-o", "schema.json") == 0  # it has loaded everything
    nursery.start(*COMMANDS["train"], pause=0.05)
    until(lambda: progress(folder / "log") >= 5)
    other.start(*COMMANDS["train"], log="other")
    assert nursery.end() == 0 and other.end() == 0
    other.close()
    assert "out: another process works here; waiting" in (folder / "other").read_text()
    assert contents(out) == undisturbed["train"][0]


def test_who_waits_too_long_says_so(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys\nfrom pathlib import Path\n"
         "from texnet.checkpoints import alone\n"
         "with alone(Path('out')):\n print(flush=True)\n sys.stdin.read()"],
        cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    with holder:
        holder.stdout.readline()
        with pytest.raises(UnfinishedError, match="out: another process works here, on this"):
            with checkpoints.alone(tmp_path / "out", wait=0.1):
                pass
        holder.kill()  # and its lock goes with it
        holder.wait()
        with checkpoints.alone(tmp_path / "out", wait=0.1):
            pass
    assert list(tmp_path.rglob("*")) == [tmp_path / "out"]


# What a rule does: Snakemake starts a shell, and the shell becomes the program.
OWNER = """
import os, subprocess, sys
from texnet import process
os.environ[process.PARENT] = process.this_process()
command = f"exec {sys.executable} -m texnet train slow.json slow/model.safetensors"
subprocess.run(["bash", "-c", command])
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP], ids=["kill", "hangup"])
def test_it_ends_with_the_process_that_it_works_for(workshop, number):
    """With a checkpoint, though an iteration takes longer than to see that the other is gone."""
    folder, _ = workshop
    shutil.rmtree(folder / "slow", ignore_errors=True)
    slow = RUN | {"generator": RUN["generator"] | {"width": 32, "blocks": 5}}
    slow["images"] = RUN["images"] | {"size": 160}
    slow |= {"checkpoint_every": 1000, "heldout_every": 1000}
    slow["optimiser"] = {"iterations": 1000, "batch": 8}
    (folder / "slow.json").write_text(json.dumps(slow))
    with (folder / "log").open("wb") as log:
        owner = subprocess.Popen(
            [sys.executable, "-c", OWNER], cwd=folder, stderr=log, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    started = time.monotonic()
    until(lambda: (folder / "slow/.texnet.lock").exists())
    (child,) = psutil.Process(owner.pid).children(recursive=True)
    time.sleep(1 + 0.5 * (time.monotonic() - started))  # it is in one of its first iterations
    if number == signal.SIGKILL:
        owner.kill()  # it alone
    else:
        os.killpg(owner.pid, number)  # a terminal closes: all of them
    owner.wait()
    psutil.wait_procs([child], timeout=30)
    assert not child.is_running()
    assert re.search(r"stopped by SIG\w+ after iteration \d+ of 1000", (folder / "log").read_text())
    assert len(list((folder / "slow").glob("checkpoint-*"))) == 1
    assert not (folder / "slow/.texnet.lock").exists()


def test_a_stop_that_an_import_disfigures(capsys):
    """What Python makes of an interrupt in the midst of an import is no error of the program."""
    from texnet import process

    def importing():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except BaseException:
            raise AttributeError("module 'numpy' has no attribute 'ndarray'") from None

    assert process.guarded("test", importing) == UnfinishedError.code
    assert (
        capsys.readouterr().err == "test: error: stopped by SIGINT; give the same command again\n"
    )


MODEL = Path("results/stylenet_in_seed0/model.safetensors")
SLOW = "checkpoint_every: 20\nheldout_every: 100\noptimiser: {iterations: 200}\n"


class Workflow:
    """Snakemake in a copy of the project, on a training that takes some seconds."""

    def __init__(self, folder):
        self.folder = copy_of_project(folder)
        (self.folder / "slow.yaml").write_text(SLOW)

    def start(self, *options, target=MODEL):
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        return subprocess.Popen(
            ["snakemake", "--cores", "2", str(target), *TINY, "slow.yaml", *options],
            cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | {"PATH": path, "PYTHONPATH": str(self.folder)},
        )  # fmt: skip

    def run(self, *options, code=0):
        with self.start(*options) as process:
            shown, _ = process.communicate()
        assert process.returncode == code, shown
        return shown

    def until_it_trains(self):
        until(lambda: list((self.folder / MODEL.parent).glob("checkpoint-*")))

    def trainers(self):
        found = psutil.process_iter(["cwd", "cmdline"])
        return [
            p for p in found
            if p.info["cwd"] == str(self.folder) and "train" in (p.info["cmdline"] or ())
        ]  # fmt: skip


def killed_main(workflow, instant):
    """Snakemake is killed while it trains, and started again as its message says."""
    with workflow.start() as first:
        workflow.until_it_trains()
        time.sleep(instant)
        first.kill()
    until(lambda: workflow.trainers() == [])  # with a checkpoint
    workflow.run("--unlock")
    workflow.run()
    assert "going on after" in (workflow.folder / "logs/train/stylenet_in_seed0.log").read_text()


def in_peace(workflow, workshop):
    """What the training of a workflow makes by itself."""
    folder, nursery = workshop
    whole = folder / "whole_workflow"
    if not whole.exists():
        run = (workflow.folder / MODEL).with_name("run.json")
        assert nursery.run("train", run, whole / MODEL.name) == 0, (folder / "log").read_text()
        shutil.copy(run, whole)
    return contents(whole)


def test_snakemake_killed(workshop, tmp_path):
    broken = Workflow(tmp_path / "broken")
    killed_main(broken, 0)
    assert contents((broken.folder / MODEL).parent) == in_peace(broken, workshop)


def test_two_people_in_one_folder(tmp_path):
    """The second is told what to do; so is who starts again after a kill."""
    workflow = Workflow(tmp_path / "shared")
    with workflow.start() as first:
        until(lambda: list((workflow.folder / ".snakemake/locks").glob("*")))
        refused = workflow.run(code=1)
        first.kill()
    assert "Directory cannot be locked" in refused and "--unlock" in refused
    assert "--unlock" in workflow.run(code=1)


@pytest.mark.long
def test_snakemake_killed_twenty_times(workshop, tmp_path):
    broken = Workflow(tmp_path / "broken")
    instant = random.Random(0)
    for _ in range(20):
        killed_main(broken, instant.uniform(0, 0.5))
        assert contents((broken.folder / MODEL).parent) == in_peace(broken, workshop)
        assert "Nothing to be done" in broken.run("--dry-run")
        for path in (broken.folder / MODEL).parent.iterdir():
            path.unlink()
