"""How a long computation shows itself: a bar on a terminal, plain lines in a log, TensorBoard."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from texnet.errors import UsageError

LINES = 20


class Progress(AbstractContextManager["Progress"]):
    """Progress of ``total`` steps: loss and time left.

    On a terminal a bar; in a log about twenty plain lines. The loss is read from the device only
    when something is shown. With ``tensorboard``, shown losses also go to that directory.
    """

    def __init__(self, title: str, total: int, tensorboard: Path | None = None) -> None:
        self.title, self.total = title, total
        self.every = max(1, total // LINES)
        self.terminal = sys.stderr.isatty()
        self.bar = tqdm(total=total, desc=title, disable=not self.terminal, dynamic_ncols=True)
        self.start = time.monotonic()
        self.first: int | None = None
        self.writer = None
        if tensorboard is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise UsageError(
                    "--tensorboard needs the package tensorboard: pip install -e '.[tensorboard]'"
                ) from error
            self.writer = SummaryWriter(str(tensorboard))

    def __call__(self, done: int, loss: object = None) -> None:
        """Report that ``done`` steps are done; ``loss`` is a number, a scalar tensor or nothing."""
        if self.first is None:
            self.first = done - 1
        if self.terminal:
            self.bar.update(done - self.bar.n)
        if done % self.every and done != self.total:
            return
        value = None if loss is None else float(loss)  # type: ignore[arg-type]
        if self.writer is not None and value is not None:
            self.writer.add_scalar("objective", value, done)
        if self.terminal:
            if value is not None:
                self.bar.set_postfix(loss=f"{value:.4g}")
            return
        spent = time.monotonic() - self.start
        left = spent / (done - self.first) * (self.total - done)
        times = f"{spent:.0f} s, {left:.0f} s left"
        said = "" if value is None else f"  loss {value:.4g}"
        line = f"{self.title}: {done}/{self.total}{said}  {times}"
        with suppress(OSError):  # a log on a full disk is no reason to stop
            print(line, file=sys.stderr, flush=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.close()
        if self.writer is not None:
            self.writer.close()
