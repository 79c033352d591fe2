"""The repository: style, types, what imports what, lengths of files, versions of what it needs."""

import tomllib

import pytest
import yaml
from conftest import ROOT, call, snakemake


def test_lint_and_format():
    lint = snakemake("--lint")
    assert lint.returncode == 0, lint.stdout + lint.stderr
    for command in (["snakefmt", "--check", "Snakefile", "workflow"], ["ruff", "check", "."],
                    ["ruff", "format", "--check", "."]):  # fmt: skip
        done = call(*command)
        assert done.returncode == 0, done.stdout + done.stderr


def test_types():
    """Of the library and of all scripts, with the settings of pyproject.toml."""
    done = call("mypy")
    assert done.returncode == 0, done.stdout + done.stderr


def test_conda_environment_names_the_same_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = dict(d.split("==") for d in project["dependencies"])
    extras = project["optional-dependencies"]["dev"]
    wanted |= dict(d.split("==") for d in extras)
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    found = dict(d.split("=") for d in conda["dependencies"] if "=" in d and "python" != d[:6])
    renamed = {"torch": "pytorch", "snakemake": "snakemake-minimal"}
    assert {renamed.get(k, k): v for k, v in wanted.items()} == found
    assert conda["channels"] == ["conda-forge", "bioconda"]


def test_constraints_pin_the_same_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(line.lower().split("==") for line in (ROOT / "constraints.txt").read_text().split())
    for requirement in project["dependencies"] + project["optional-dependencies"]["dev"]:
        name, version = requirement.split("==")
        assert pins[name] == version


def test_modules_import_one_way():
    """The contracts of .importlinter; its message says where a new module is added."""
    done = call("lint-imports", "--no-cache", "--no-logo")
    assert done.returncode == 0, done.stdout + done.stderr


BUDGETS = {
    "texnet/*.py": 400,
    "workflow/rules/*.smk": 120,
    "workflow/rules/common.smk": 60,
    "figures/fig*.py": 70,
    "figures/table_*.py": 70,
}


@pytest.mark.parametrize("files", BUDGETS)
def test_files_keep_to_their_budget(files):
    found = {path.name: path.read_text().count("\n") for path in ROOT.glob(files)}
    assert found and not {name: n for name, n in found.items() if n > BUDGETS[files]}
