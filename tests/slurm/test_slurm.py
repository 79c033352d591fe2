"""The workflow on a real Slurm, undisturbed and through faults, to the same files.

The faults strike seven runs at once, each in a project of its own. All runs make one training long
enough to be struck; what it must end in comes from the command line, without Slurm or Snakemake.
"""

import contextlib
import csv
import os
import re
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from cluster import MISSING, Cluster
from conftest import BIN, TINY, call, copy_of_project

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(MISSING), reason=f"Slurm is not installed: no {', '.join(MISSING)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="a Slurm of one's own needs root"),
]
# What a test need not wait for as long as a user.
IMPATIENT = ("--seconds-between-status-checks", 1, "--max-status-checks-per-second", 20,
             "--latency-wait", 5)  # fmt: skip
LONG = (
    "device: auto\ncheckpoint_every: {every}\nheldout_every: 100\noptimiser: {{iterations: 300}}\n"
)
FOLDER = Path("results/stylenet_in_seed0")
MODEL = FOLDER / "model.safetensors"
AT_GPU1 = ("--set-resources", "train:slurm_extra='--nodelist=gpu1'")


@pytest.fixture(scope="session")
def cluster():
    # Not in pytest's folder, which is private: munge's socket must be for all.
    with tempfile.TemporaryDirectory(prefix="texnet-slurm-") as folder, Cluster(folder) as started:
        yield started


class Run:
    """Snakemake through the profile, in a copy of the project."""

    def __init__(self, cluster, folder, *options, every=10_000, target=MODEL):
        self.cluster, self.options, self.target = cluster, options, target
        self.folder = copy_of_project(folder)
        (self.folder / "long.yaml").write_text(LONG.format(every=every))
        self.log = self.folder / "snakemake.log"
        self.struck = ""  # the job that the fault struck

    def start(self, *options):
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        env = self.cluster.env | {"PATH": path, "PYTHONPATH": str(self.folder)}
        line = ["snakemake", "--workflow-profile", "profiles/slurm", self.target, *TINY,
                "long.yaml", *IMPATIENT, *self.options, *options]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(word) for word in line], cwd=self.folder, env=env, stdout=log, stderr=log
            )
        return self

    def finish(self, wanted=0):
        try:
            code = self.process.wait(400)
        finally:
            self.process.kill()  # where it hangs
        assert code == wanted, self.log.read_text()[-3000:]
        return self

    def until_it_trains(self):
        """Wait until the training has come some way; remember its job."""
        log, end = self.folder / "logs/train/stylenet_in_seed0.log", time.monotonic() + 240
        while not (log.exists() and re.search(r": [1-9]\d*/300", log.read_text())):
            assert time.monotonic() < end and self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        (self.struck,) = self.cluster.jobs(self.folder)
        return self

    def trainers(self):
        return [p for p in self.processes() if "train" in p.info["cmdline"]]

    def processes(self):
        """Processes that work in this folder."""
        found = psutil.process_iter(["cwd", "cmdline"])
        return [p for p in found if p.info["cwd"] == str(self.folder) and p.pid != os.getpid()]

    def jobs(self):
        """All jobs that there were, in order."""
        numbers = self.cluster.jobs(self.folder, "all")
        return [self.cluster.job(number) for number in sorted(numbers, key=int)]

    def log_of_training(self):
        return (self.folder / "logs/train/stylenet_in_seed0.log").read_text()


def cancelled(run):
    run.start().until_it_trains().cluster.command("scancel", run.struck)
    return run.finish()


def warned(run):
    """As by sbatch --signal=B:USR1, some time before its end: the batch shell alone is told."""
    run.start().until_it_trains()
    run.cluster.command("scancel", "--signal=USR1", "--batch", run.struck)
    return run.finish()


def over_its_time(run):
    """Its minute passes while it is stopped; Slurm wakes it up and asks it to end."""
    run.start().until_it_trains()
    for trainer in run.trainers():
        trainer.suspend()
    return run.finish()


def over_its_memory(run):
    return run.start().finish()


def node_down(run):
    run.start().until_it_trains()
    run.cluster.command("scontrol", "update", "nodename=gpu2", "state=down", "reason=test")
    time.sleep(5)
    with contextlib.suppress(subprocess.CalledProcessError):  # it may have come back by itself
        run.cluster.command("scontrol", "update", "nodename=gpu2", "state=resume")
    return run.finish()


def main_killed(run):
    """Its job stays without it; who starts it again is told what to do, and does it."""
    run.start().until_it_trains()
    run.process.kill()
    run.process.wait()
    for trainer in run.trainers():  # lest it end before it is found
        trainer.suspend()
    assert run.cluster.jobs(run.folder) == [run.struck]
    run.start().finish(wanted=1)
    assert "--unlock" in run.log.read_text()
    run.start("--unlock").finish()
    return run.start().finish()


def interrupted(run):
    """Ctrl-C, and the script for what it may have missed, end its jobs and leave no lock."""
    run.start().until_it_trains()
    run.process.send_signal(signal.SIGINT)
    run.finish(wanted=1)
    done = call("profiles/slurm/cancel", cwd=run.folder, SLURM_CONF=run.cluster.env["SLURM_CONF"])
    assert done.returncode == 0, done.stderr
    assert run.cluster.jobs(run.folder) == []
    return run.start().finish()


@pytest.fixture(scope="session")
def faults(cluster, tmp_path_factory):
    """All faults at once; a future of the run that each struck."""
    # Where no checkpoint is due, the one that is gone on with was made when the job was to stop.
    options = {
        cancelled: (AT_GPU1, 10_000),
        warned: (AT_GPU1, 10_000),
        over_its_time: ((*AT_GPU1, "train:runtime=attempt*attempt*attempt"), 10_000),
        over_its_memory: ((*AT_GPU1, "train:mem_mb=attempt*250"), 50),
        node_down: (("--set-resources", "train:slurm_extra='--nodelist=gpu2'"), 50),
        main_killed: (AT_GPU1, 50),
        interrupted: (AT_GPU1, 10_000),
    }
    with ThreadPoolExecutor(len(options)) as pool:
        yield {
            fault: pool.submit(
                fault,
                Run(cluster, tmp_path_factory.mktemp(fault.__name__), *more, every=every),
            )
            for fault, (more, every) in options.items()
        }


def test_the_tiny_dag_while_the_controller_goes_and_comes_back(cluster, faults, tmp_path):
    """All that a user would ask for; half a minute's outage is waited for, no job is lost."""
    run = Run(cluster, tmp_path / "project", target="all")
    (run.folder / "long.yaml").write_text("device: auto\n")
    run.start()
    for future in faults.values():
        future.exception()
    assert run.process.poll() is None, run.log.read_text()[-3000:]
    cluster.stop_controller()
    time.sleep(25)
    cluster.restart_controller()
    run.finish()
    for number in range(1, 8):
        assert (run.folder / f"figures/fig{number}.pdf").stat().st_size > 1000
    jobs = run.jobs()
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    # What is quick to do stays with Snakemake itself.
    away = {"train", "optimize", "score", "references", "speed"}
    assert {job["JobName"].removeprefix("texnet-") for job in jobs} == away
    trained = [job for job in jobs if job["JobName"] == "texnet-train"]
    assert len(trained) == 21
    # On the nodes with GPUs, and one each.
    assert {job["NodeList"] for job in trained} <= {"gpu1", "gpu2"}
    assert all("gres" in job["TresPerNode"] for job in trained)


def values(folder):
    """Everything that a training leaves, but for seconds and for how often it was saved."""
    from texnet.artifacts import read_tensors

    with (folder / "history.csv").open(newline="") as stream:
        history = [row | {"seconds": ""} for row in csv.DictReader(stream)]
    tensors, metadata = read_tensors(folder / "model.safetensors")
    metadata["run"] = re.sub(r'"checkpoint_every": \d+', "", metadata["run"])
    weights = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
    return weights, metadata, history, (folder / "samples.png").read_bytes()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    folder = copy_of_project(tmp_path_factory.mktemp("undisturbed"))
    (folder / "long.yaml").write_text(LONG.format(every=50))
    files = "config/config.yaml,config/tiny.yaml,long.yaml"
    for command in (("configure", files, "-o", "results"), ("train", FOLDER / "run.json", MODEL)):
        done = call("texnet", *command, cwd=folder)
        assert done.returncode == 0, done.stderr
    return values(folder / FOLDER)


@pytest.mark.parametrize(
    ("fault", "states", "resumed"),
    [
        (cancelled, ["CANCELLED", "COMPLETED"], True),
        (warned, ["FAILED", "COMPLETED"], True),
        (over_its_time, ["TIMEOUT", "COMPLETED"], True),
        (over_its_memory, ["FAILED", "COMPLETED"], False),
        (node_down, ["COMPLETED"], True),
        (main_killed, ["CANCELLED", "COMPLETED"], True),
        (interrupted, ["CANCELLED", "COMPLETED"], True),
    ],
)
def test_a_fault_leaves_the_same_files_and_nothing_else(
    faults, undisturbed, fault, states, resumed
):
    run = faults[fault].result()
    assert values(run.folder / FOLDER) == undisturbed

    jobs = run.jobs()
    assert [job["JobState"] for job in jobs][-len(states) :] == states
    if fault is node_down:
        assert int(jobs[0]["Restarts"]) >= 1
    assert ("going on after iteration" in run.log_of_training()) == resumed

    assert run.cluster.jobs(run.folder) == []
    assert run.processes() == []
    left = {path.name for path in (run.folder / FOLDER).iterdir()}
    assert left == {"run.json", "model.safetensors", "history.csv", "samples.png"}
    if fault in (main_killed, interrupted):
        again = run.start("--dry-run").finish()
        assert "Nothing to be done" in again.log.read_text()
