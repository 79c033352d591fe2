"""One thread for every test, commands in this environment, and the tiny project made once."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from lives import undisturbed, workshop  # noqa: F401 (fixtures)

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
TINY = ("--configfile", "config/tiny.yaml")


@pytest.fixture(autouse=True)
def one_thread():
    """Whatever a test before has asked for in this process."""
    torch.set_num_threads(1)


def call(*arguments, cwd=ROOT, **env):
    """Run a command of this environment; returns the finished process with its output as text."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [str(a) for a in arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(cwd)} | env,
    )


def snakemake(*arguments, cwd=ROOT):
    return call("snakemake", *arguments, cwd=cwd)


def copy_of_project(folder):
    """The project without what was made in it."""
    ignore = shutil.ignore_patterns(
        ".venv", ".git", ".*_cache", ".hypothesis", ".coverage*", "htmlcov", ".snakemake",
        "results", "resources", "logs", "*.pdf", "*.png",
        "__pycache__", "*.tsv", "table_*.html", "table_*.md", "table_*.tex", "speed.csv",
        "report.html",
    )  # fmt: skip
    return Path(shutil.copytree(ROOT, folder, ignore=ignore, dirs_exist_ok=True))


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """A copy of the project in which the tiny DAG has been made; who changes it, restores it."""
    copy = copy_of_project(tmp_path_factory.mktemp("project") / "texnet clone")
    done = snakemake("--cores", 2, "all", *TINY, cwd=copy)
    assert done.returncode == 0, done.stdout + done.stderr
    return copy


def pytest_configure(config):
    """Exemplars are drawn once, for all workers, and not into the developer's cache."""
    config.option.loadscopereorder = False  # xdist would begin with the files of most tests
    if not hasattr(config, "workerinput"):  # workers have the environment of who starts them
        folder = tempfile.TemporaryDirectory(prefix="texnet-cache-")
        os.environ["TEXNET_CACHE"] = folder.name
        config.add_cleanup(folder.cleanup)


def pytest_collection_modifyitems(items):
    """The tiny DAG first, for the first worker."""
    items.sort(key=lambda item: item.path.name != "test_workflow.py")
