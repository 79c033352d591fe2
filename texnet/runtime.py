"""The process that computes: device, threads, determinism and allocator."""

from __future__ import annotations

import ctypes
import sys

import torch

# glibc gives large freed blocks back to the system at once and takes page faults to get them again;
# keeping them saves 14-42 % of a training step on the CPU. Numbers of the options: <malloc.h>.
_MALLOPT = {-3: 2**31 - 1, -1: 2**31 - 1, -2: 256 << 20}  # mmap threshold, trim threshold, top pad


def prepare(
    device: str = "cpu", threads: int = 1, precision: str = "fp32", reproducible: bool = True
) -> torch.device:
    """Set up this process for a run and return its device.

    Args:
        device: ``cpu``, ``cuda``, ``mps``, or ``auto`` for an accelerator where there is one.
        threads: CPU threads. Taken from the run, never from the job's cores: sums over another
            number of threads round differently, and the run would end in other weights.
        precision: ``fp32``; ``tf32``, with TensorFloat-32 in convolutions, never in the matrix
            products of Gram matrices; or ``bf16``, whose autocast is the run's.
        reproducible: whether fp32 on an accelerator takes deterministic algorithms. The other two
            always take the fastest.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        for option, value in _MALLOPT.items():
            if hasattr(libc, "mallopt"):
                libc.mallopt(option, value)
    torch.set_num_threads(threads)
    where = torch.device("cpu" if device == "auto" else device)
    if device == "auto":
        where = torch.accelerator.current_accelerator(check_available=True) or where
    torch.backends.cudnn.allow_tf32 = precision == "tf32"  # PyTorch's default is True
    torch.backends.cuda.matmul.allow_tf32 = False
    # On the CPU every operation that we use is deterministic as it is.
    deterministic = where.type != "cpu" and precision == "fp32" and reproducible
    torch.backends.cudnn.benchmark = where.type != "cpu" and not deterministic
    # Only where it changes something: even switching it off imports the compiler, for seconds.
    if deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # That mode also fills fresh memory, against reads of it: time for nothing here.
    torch.utils.deterministic.fill_uninitialized_memory = False
    return where
