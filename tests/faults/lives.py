"""Commands to be killed, stopped and starved, and what each makes in peace."""

import csv
import json
import re
import time
from pathlib import Path

import pytest
from victims import Nursery

from texnet.artifacts import sha256

EVERY = 2
ITERATIONS = 20
RUN = {
    "name": "tiny",
    "seed": 0,
    "descriptor": {"name": "random"},
    "generator": {"norm": "batch", "width": 4, "blocks": 1},
    "objective": {"style_layers": ["relu1_1", "relu2_1"], "content_layers": ["relu2_1"]},
    "optimiser": {"iterations": ITERATIONS, "batch": 2, "lr": 3e-3},
    "images": {
        "style": "ihc",
        "style_size": 32,
        "size": 32,
        "heldout_size": 32,
        "contents": ["rocket", "coffee"],
        "heldout": ["chelsea", "flower"],
    },
    "device": "cpu",
    "heldout_every": 10,
    "checkpoint_every": EVERY,
}
BASELINE = {key: RUN[key] for key in ("seed", "descriptor", "objective", "images", "device")} | {
    "name": "gatys",
    "start": "noise",
    "evaluations": 6,
}
COMMANDS = {
    "train": ("train", "train.json", "out/model.safetensors"),
    "optimize": ("optimize", "optimize.json", "out/images.safetensors"),
}


@pytest.fixture(scope="session")
def workshop(tmp_path_factory):
    """A folder with the runs, and processes to be had there."""
    folder = tmp_path_factory.mktemp("victims")
    loaded = RUN | {"acceleration": {"loaders": 2}}
    for name, run in (("train", RUN), ("loaded", loaded), ("optimize", BASELINE)):
        (folder / f"{name}.json").write_text(json.dumps(run))
    nursery = Nursery(folder)
    yield folder, nursery
    nursery.close()


@pytest.fixture(scope="session")
def undisturbed(workshop):
    """What each command makes in peace, and in how many seconds."""
    folder, nursery = workshop
    made = {}
    assert nursery.run("schema", "-o", "schema.json") == 0  # until then it is still loading
    for name, (verb, run, out) in COMMANDS.items():
        whole = Path(out.replace("out", f"whole_{name}"))
        started = time.monotonic()
        assert nursery.run(verb, run, whole) == 0, (folder / "log").read_text()
        made[name] = contents(folder / whole.parent), time.monotonic() - started
    return made


def contents(folder):
    """Every file of a result, without seconds."""
    found = {path.name: sha256(path) for path in folder.iterdir()}
    if "history.csv" in found:
        with (folder / "history.csv").open(newline="") as stream:
            found["history.csv"] = [row | {"seconds": ""} for row in csv.DictReader(stream)]
    return found


def fresh(workshop):
    """An empty folder of results."""
    folder, nursery = workshop
    nursery.settle()
    for path in (folder / "out").glob("*"):
        path.unlink()
    for path in (folder / "out").glob(".*"):
        path.unlink()
    return folder / "out"


def until(ready, seconds=60):
    """Wait for something that must come."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


def progress(log):
    """The last iteration that a training told of."""
    text = log.read_text() if log.exists() else ""
    return max(map(int, re.findall(rf"(\d+)/{ITERATIONS}", text)), default=0)


def gone_on_after(log):
    found = re.search(r"going on after iteration (\d+)", log.read_text())
    return int(found[1]) if found else 0
