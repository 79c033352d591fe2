"""The process that computes: device, threads, determinism and allocator."""

from __future__ import annotations

import ctypes
import importlib
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

import torch

# glibc gives large freed blocks back to the system at once and takes page faults to get them again;
# keeping them saves 14-42 % of a training step on the CPU. Numbers of the options: <malloc.h>.
_MALLOPT = {-3: 2**31 - 1, -1: 2**31 - 1, -2: 256 << 20}  # mmap threshold, trim threshold, top pad
_LEAN = {-3: 32 << 20}


COMPILER = "torch._dynamo"


class NoCompiler(ModuleType):
    """Stands for PyTorch's compiler until somebody wants more of it than to be left alone.

    ``torch.optim`` imports it, a second of every process, to say that it should not compile the
    optimisers. Whoever asks for anything else gets the real one.
    """

    def __init__(self) -> None:
        super().__init__(COMPILER)
        self.__spec__ = importlib.machinery.ModuleSpec(COMPILER, None)

    @staticmethod
    def graph_break(*_: object) -> None:
        """Nothing is being compiled."""

    def disable(self, function: Any = None, *given: Any, **how: Any) -> Any:  # noqa: ANN401
        """The function, which nothing would have compiled."""
        return self.real.disable(function, *given, **how) if function is None else function

    @property
    def real(self) -> ModuleType:
        """The compiler, loaded in this one's place."""
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        return importlib.import_module(COMPILER)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name.startswith("__") and name != "__path__":  # who looks through all modules
            raise AttributeError(name)
        return getattr(self.real, name)


def prepare(
    device: str = "cpu",
    threads: int = 1,
    precision: str = "fp32",
    reproducible: bool = True,
    lean: bool = False,
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
        lean: whether memory is short: freed blocks of 32 MiB and more go back to the system, which
            takes a few per cent of the time, since kept ones do not fit what is asked for next.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        for option, value in (_MALLOPT | _LEAN if lean else _MALLOPT).items():
            if hasattr(libc, "mallopt"):
                libc.mallopt(option, value)
    torch.set_num_threads(threads)
    if COMPILER not in sys.modules:
        sys.modules[COMPILER] = torch._dynamo = NoCompiler()
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
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it is
    return where
