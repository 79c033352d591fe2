"""The process that computes: device, threads, determinism, allocator, and torchvision's import."""

from __future__ import annotations

import ctypes
import sys

import torch

# glibc gives large freed blocks back to the system at once and takes page faults to get them again;
# keeping them saves 14-42 % of a training step on the CPU. Numbers of the options: <malloc.h>.
_MALLOPT = {-3: 2**31 - 1, -1: 2**31 - 1, -2: 256 << 20}  # mmap threshold, trim threshold, top pad


_DECLARED = torch.library.Library("torchvision", "FRAGMENT")


def prepare(device: str = "cpu", threads: int = 1) -> torch.device:
    """Set up this process for a run and return its device.

    Args:
        device: ``cpu``, ``cuda``, ``mps``, or ``auto`` for an accelerator where there is one.
        threads: CPU threads. Taken from the run, never from the job's cores: sums over another
            number of threads round differently, and the run would end in other weights.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        for option, value in _MALLOPT.items():
            if hasattr(libc, "mallopt"):
                libc.mallopt(option, value)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # That mode also fills fresh memory, against reads of it: 8 % of a step, for nothing here.
    torch.utils.deterministic.fill_uninitialized_memory = False
    if device == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return found if found is not None else torch.device("cpu")
    return torch.device(device)


def torchvision():  # noqa: ANN201 (the module itself)
    """Import torchvision, also where its compiled operators cannot be loaded.

    A CPU build of torch beside the package index's torchvision (built for CUDA) leaves the
    operators ``nms`` and ``qnms`` undefined, and the import dies registering shape functions for
    them. We use neither; declaring their schemas is enough for the import.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            _DECLARED.define(
                f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        import torchvision
    return torchvision
