"""The committed experiment with keys changed."""

import copy
from pathlib import Path

import yaml

from texnet import config
from texnet.experiment import Experiment

FULL = Path(__file__).resolve().parents[1] / "config" / "config.yaml"
COMMITTED = yaml.safe_load(FULL.read_text())


def changed(content, **changes):
    """A deep copy with values set at dotted keys (given with __ for the dots)."""
    content = copy.deepcopy(content)
    for key, value in changes.items():
        *sections, last = key.split("__")
        inner = content
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return content


def experiment(**changes):
    return config.parse(Experiment, changed(COMMITTED, **changes), "configuration")
