"""How much memory a computation takes, and how much there is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import torch

from texnet.errors import UsageError

MIB = 2**20
GIB = 2**30
CGROUPS = Path("/sys/fs/cgroup")


def peak_memory(work: Callable[[], object], device: torch.device) -> int:
    """Most bytes of tensors that ``work()`` held at once, above what was held before it.

    On the CPU every allocation and release of PyTorch's allocator is replayed in the order of time.
    Not seen are what oneDNN allocates for itself, and that ``work`` releases an older tensor. On
    cuda it is the caching allocator's own count.

    Raises:
        UsageError: the device counts no peak.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu":
        raise UsageError(f"device '{device.type}' counts no peak of memory; use cpu or cuda")
    # The profiler's library tells standard error when it starts and stops; it reads this once.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with torch.autograd.profiler.profile(profile_memory=True) as profiler:
        work()
    events = [e for e in profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def available_memory(device: torch.device) -> int:
    """Bytes that can still be allocated: on cuda by the driver, else by system and cgroup."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min([psutil.virtual_memory().available, *cgroup_room()])


def cgroup_room(root: Path = CGROUPS, process: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Bytes left under every memory limit above this process: a container's, a batch job's.

    A limit is of the control group or of any of its parents, in version 2 or 1 of the interface.
    Cached files count as free: the system drops them first.
    """
    if not process.is_file():
        return
    for line in process.read_text().splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        kind, mount = ("v1", root / "memory") if controllers else ("v2", root)
        most, used, cached = {
            "v1": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            "v2": ("memory.max", "memory.current", "inactive_file"),
        }[kind]
        group = mount / name.strip("/")
        # A container sees its own group as the root, under a name that is not there.
        for folder in [group, *group.parents]:
            if not folder.is_relative_to(mount):
                break
            try:
                limit = int((folder / most).read_text())
                usage = int((folder / used).read_text())
                lines = (folder / "memory.stat").read_text().splitlines()
            except (OSError, ValueError):  # no such group; "max" is no limit
                continue
            reclaimed = dict(line.split() for line in lines).get(cached, "0")
            yield max(0, limit - usage + int(reclaimed))
