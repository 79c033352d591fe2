"""The process: the allocator's options, and a compiler that is loaded when somebody compiles."""

import ctypes
import sys

import pytest
from conftest import call

from texnet import runtime

STEP = """
import sys, torch
from texnet import runtime
runtime.prepare("cpu", 1)
weight = torch.nn.Parameter(torch.ones(2))
for make in (lambda: torch.optim.Adam([weight], fused=True), lambda: torch.optim.LBFGS([weight])):
    solver = make()
    def closure():
        solver.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss
    solver.step(closure)
    solver.load_state_dict(solver.state_dict())
assert weight.ne(1).all(), "nothing was optimised"
print("torch._dynamo.eval_frame" in sys.modules)
"""


ASKS = [
    'print(torch.compile(lambda x: 2 * x, backend="eager")(torch.ones(1)).item())',
    "import torch._dynamo.utils; print(float(2))",
    "print(torch.compiler.disable(recursive=False)(lambda: 2.0)())",
    "import importlib.util; print(2.0 if importlib.util.find_spec('torch._dynamo') else 0);"
    "import torch._dynamo.utils",
    "print(2.0 if torch._dynamo.is_compiling() is False else torch._dynamo)",
]
# Each in a process of its own, a fork of one that has loaded PyTorch and made the steps.
FORKS = """
import os
for ask in sys.argv[1:]:
    sys.stdout.flush()
    child = os.fork()
    if not child:
        exec(ask)
        print("torch._dynamo.eval_frame" in sys.modules)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_optimisers_do_not_load_the_compiler_and_who_asks_for_it_gets_it():
    done = call(sys.executable, "-c", STEP + FORKS, *ASKS)
    assert done.stdout.split() == ["False", *["2.0", "True"] * len(ASKS)], done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
@pytest.mark.parametrize(("lean", "threshold"), [(False, 2**31 - 1), (True, 32 << 20)])
def test_freed_memory_is_kept_unless_it_is_short(lean, threshold, monkeypatch):
    asked = {}

    class Libc:
        @staticmethod
        def mallopt(option, value):
            asked[option] = value

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Libc)
    runtime.prepare("cpu", 1, lean=lean)
    assert asked[-3] == threshold  # M_MMAP_THRESHOLD
    assert asked[-1] == 2**31 - 1  # M_TRIM_THRESHOLD
