"""The rates of this machine: the largest at which PyTorch convolves, multiplies and copies.

Run by benchmarks/measure.py as ``python -m benchmarks.limits '{"tiny": false}'``.
"""

from __future__ import annotations

import functools
import json
import platform
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from expected.update import processor
from texnet import runtime

THREADS = (1, 2)
REPETITIONS = 10
LAYERS = ((512, 32), (256, 64))
"""Channels and side of the maps of two convolutions of VGG-19; four images."""
SIDE = 2048
"""Of the matrices."""
COPIED = 2**28
"""Bytes."""


def fastest(work: Callable[[], object], repetitions: int) -> float:
    """Seconds of ``work()``, after one that warms up."""
    work()
    found = []
    for _ in range(repetitions):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


@torch.no_grad()
def convolution(kind: torch.dtype, repetitions: int, tiny: bool) -> float:
    """Operations a second, in 1e9, of the faster of two 3x3 convolutions in channels_last."""
    rates = []
    for channels, side in ((16, 16),) if tiny else LAYERS:
        maps, kernel = (
            torch.rand(shape).to(kind).contiguous(memory_format=torch.channels_last)
            for shape in ((4, channels, side, side), (channels, channels, 3, 3))
        )
        count = 2 * 4 * 9 * channels**2 * side**2
        work = functools.partial(F.conv2d, maps, kernel, padding=1)
        seconds = fastest(work, repetitions)
        rates.append(count / seconds / 1e9)
    return max(rates)


def product(repetitions: int, tiny: bool) -> float:
    """Operations a second, in 1e9, of a product of square matrices in fp32."""
    side = 64 if tiny else SIDE
    a, b = torch.rand(side, side), torch.rand(side, side)
    return 2 * side**3 / fastest(lambda: torch.mm(a, b), repetitions) / 1e9


def copy(repetitions: int, tiny: bool) -> float:
    """Bytes that are copied in a second, in 1e9; each is read once and written once."""
    source = torch.ones(2**12 if tiny else COPIED, dtype=torch.uint8)
    target = torch.zeros_like(source)
    return source.numel() / fastest(lambda: target.copy_(source), repetitions) / 1e9


def measure(tiny: bool) -> dict[str, object]:
    """Rows of limits.csv, how often each was measured, and what the machine is."""
    repetitions, rows = 1 if tiny else REPETITIONS, []
    for threads in THREADS:
        runtime.prepare("cpu", threads)
        found = {
            "fp32 convolution": (convolution(torch.float32, repetitions, tiny), "GFLOP/s"),
            "bf16 convolution": (convolution(torch.bfloat16, repetitions, tiny), "GFLOP/s"),
            "fp32 matrix product": (product(repetitions, tiny), "GFLOP/s"),
            "copy": (copy(repetitions, tiny), "GB/s"),
        }
        rows += [(name, threads, value, unit) for name, (value, unit) in found.items()]
    machine = {
        "processor": processor(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    return {"rows": rows, "repetitions": repetitions, "machine": machine}


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
