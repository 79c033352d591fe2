"""What a long computation shows: lines in a log, a bar on a terminal, TensorBoard where asked."""

import io
import re
import sys
import types

import pytest
import torch

from texnet.errors import UsageError
from texnet.progress import LINES, Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("total", [7, 100, 203])
def test_a_log_has_about_twenty_lines_and_the_last_is_of_the_end(total, capsys):
    with Progress("train a", total) as show:
        for done in range(1, total + 1):
            show(done, torch.tensor(1 / done))
    lines = capsys.readouterr().err.splitlines()
    assert min(total, LINES) <= len(lines) <= 1.1 * LINES + 1
    pattern = rf"train a: (\d+)/{total}  loss (\S+)  \d+ s, \d+ s left"
    told = [re.fullmatch(pattern, line).groups() for line in lines]
    assert all(loss == f"{1 / int(done):.4g}" for done, loss in told)
    assert int(told[-1][0]) == total


def test_what_is_left_is_counted_from_where_it_went_on(capsys, monkeypatch):
    """The first of these ten steps is the ninth: one takes as long as each of those to come."""
    clock = iter([100.0, 103.0, 106.0])
    monkeypatch.setattr("texnet.progress.time.monotonic", lambda: next(clock))
    with Progress("train a", 10) as show:
        show(9, 0.5)
        show(10, 0.25)
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "train a: 9/10  loss 0.5  3 s, 3 s left", "train a: 10/10  loss 0.25  6 s, 0 s left",
    ]  # fmt: skip


def test_a_terminal_has_a_bar_and_no_lines(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with Progress("train a", 40) as show:
        for done in range(1, 41):
            show(done, torch.tensor(0.125))
    last = shown.getvalue().rpartition("\r")[2]
    assert "train a: 100%" in last and "40/40" in last and "loss=0.125" in last
    assert "s left" not in shown.getvalue()


def test_a_full_disk_under_the_log_is_no_reason_to_stop(monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    show = Progress("train a", 1)
    show(1, 1.0)


def test_tensorboard_gets_what_is_shown(tmp_path, monkeypatch, capsys):
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            written.append(folder)

        def add_scalar(self, *scalar):
            written.append(scalar)

        def close(self):
            written.append("closed")

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with Progress("train a", 40, tensorboard=tmp_path) as show:
        for done in range(1, 5):
            show(done, done / 2)
    scalars = [("objective", 1.0, 2), ("objective", 2.0, 4)]  # every second of 40
    assert written == [str(tmp_path), *scalars, "closed"]


def test_without_tensorboard_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"needs the package tensorboard: pip install"):
        Progress("train a", 1, tensorboard=tmp_path)
