"""Memory: the peak against byte counts that are known, the room under limits against fake ones."""

import psutil
import pytest
import torch
import torch.nn.functional as F

from texnet import generators, memory
from texnet.errors import UsageError

CPU = torch.device("cpu")
MB = 1_000_000


def test_peak_is_what_was_held_at_once():
    def work():
        a = torch.empty(40 * MB, dtype=torch.uint8)
        b = torch.empty(80 * MB, dtype=torch.uint8)
        del a
        c = torch.empty(10 * MB, dtype=torch.uint8)
        return b, c

    assert memory.peak_memory(work, CPU) == 120 * MB


def test_what_was_held_before_does_not_count():
    held = torch.ones(40 * MB, dtype=torch.uint8)
    assert memory.peak_memory(lambda: held.zero_(), CPU) < 100
    assert memory.peak_memory(lambda: held.clone(), CPU) == 40 * MB
    assert memory.peak_memory(lambda: None, CPU) == 0


def test_temporaries_inside_an_operator_count():
    x = torch.zeros(1000, 1000)
    # The median of all numbers is one number, but is found in a copy of them.
    assert memory.peak_memory(lambda: x.median(), CPU) == pytest.approx(4 * MB, rel=1e-3)
    # Sorting also makes the indices, of 8 bytes each.
    found = memory.peak_memory(lambda: x.sort(dim=1).values, CPU)
    assert found == pytest.approx(12 * MB, rel=1e-2)
    image = x[None, None]
    found = memory.peak_memory(lambda: F.pad(image, (1, 1, 1, 1), mode="replicate").sum(), CPU)
    assert found == pytest.approx(4 * 1002 * 1002, rel=1e-4)


def test_gradients_count():
    x = torch.ones(MB, requires_grad=True)

    def work():
        (x.exp().exp()).sum().backward()
        x.grad = None

    # Both results are kept for the way back, where a gradient of each is made.
    assert 3 * 4 * MB <= memory.peak_memory(work, CPU) <= 5 * 4 * MB


def test_memory_of_a_network_grows_with_the_pixels():
    net = generators.StyleNet(width=4, blocks=1).eval()

    @torch.no_grad()
    def peak(side):
        return memory.peak_memory(lambda: net(torch.zeros(1, 3, side, side)), CPU)

    # Smaller maps PyTorch convolves another way, which takes more for each pixel.
    assert peak(512) == pytest.approx(4 * peak(256), rel=0.05)


def test_nothing_is_printed(capfd):
    memory.peak_memory(lambda: torch.empty(10), CPU)
    assert capfd.readouterr() == ("", "")


def test_other_devices_are_refused():
    with pytest.raises(UsageError, match="device 'meta' counts no peak of memory; use cpu or cuda"):
        memory.peak_memory(lambda: None, torch.device("meta"))


@pytest.fixture
def cgroups(tmp_path):
    """A tree of control groups, and a function that sets up one of them."""

    def group(path, limit, usage, cached, version):
        folder = tmp_path / path
        folder.mkdir(parents=True, exist_ok=True)
        names = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
                 2: ("memory.max", "memory.current", "inactive_file")}[version]  # fmt: skip
        for name, value in zip(names, (limit, usage), strict=False):
            (folder / name).write_text(f"{value}\n")
        (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {cached}\n")

    return tmp_path, group


@pytest.mark.parametrize(
    ("version", "lines"),
    [(2, "0::/job/step\n"), (1, "9:cpu:/elsewhere\n4:memory:/job/step\n0::/\n")],
)
def test_room_under_a_limit(cgroups, version, lines):
    root, group = cgroups
    (root / "process").write_text(lines)
    base = "memory/" if version == 1 else ""
    group(f"{base}job/step", "max" if version == 2 else 2**62, 700, 0, version)
    group(f"{base}job", 1000, 700, 50, version)
    group(f"{base}other", 10, 5, 0, version)
    found = list(memory.cgroup_room(root, root / "process"))
    assert min(found) == 350
    group(f"{base}job", 1000, 1100, 0, version)
    assert min(memory.cgroup_room(root, root / "process")) == 0
    # In a container the name is that of the host; the limit is that of the root.
    (root / "process").write_text(lines.replace("job", "unseen"))
    group(base or ".", 900, 300, 0, version)
    assert list(memory.cgroup_room(root, root / "process")) == [600]


def test_no_limit(tmp_path):
    assert list(memory.cgroup_room(tmp_path, tmp_path / "none")) == []
    (tmp_path / "process").write_text("0::/user\n")
    assert list(memory.cgroup_room(tmp_path, tmp_path / "process")) == []


def test_available_is_the_smallest(monkeypatch):
    monkeypatch.setattr(memory, "cgroup_room", lambda: iter([5, 3]))
    assert memory.available_memory(CPU) == 3
    monkeypatch.setattr(memory, "cgroup_room", lambda: iter([]))
    assert 0 < memory.available_memory(CPU) <= psutil.virtual_memory().total
