"""The benchmarks that no rule runs still run."""

import importlib.util

import pytest
import torch
from conftest import ROOT

from texnet.config import Acceleration


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("network", ["stylenet", "v1", "v2"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_of_the_papers_networks(network, precision):
    step = script("step").step_of(
        network, 64, 1 if network != "v2" else 2, torch.device("cpu"), Acceleration(precision)
    )
    first, second = step(), step()
    assert first.isfinite().all() and second.isfinite().all()
    assert not torch.equal(first, second), "nothing was trained"


def test_every_way_of_a_step_is_a_way_of_computing():
    for ways in script("step").WAYS.values():
        for keys in ways.values():
            Acceleration(**keys)


def test_rounding_over_a_training(tmp_path):
    """Of one thread and fp32 every ratio is 1 by definition; bf16 does change the same images."""
    from test_updates import training

    precision = script("precision")
    fp32, threads, bf16 = precision.rows_of(training(), tmp_path)
    assert [fp32[i] for i in (1, 3, 5, 6)] == ["fp32", 1, 1, 1]
    assert threads[6] == 1
    assert 0 < abs(bf16[6] - 1) < 0.05
