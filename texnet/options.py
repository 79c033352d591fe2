"""Arguments of the command line: their types, and how a verb is described."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

Run = Callable[[argparse.Namespace], None]
Number = TypeVar("Number", int, float)
Reads = Callable[[str], Number]


class Parser(argparse.ArgumentParser):
    """Says one line about a wrong argument, not the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


class Verbs:
    """The verbs of a parser; a name may have two words."""

    def __init__(self, top: Parser) -> None:
        self.choices = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def add(self, run: Run, summary: str, example: str, name: str | None = None) -> Parser:
        """Add a verb, named as its function where no name is given.

        Args:
            run: what it does.
            summary: one line about it.
            example: the arguments of an example.
            name: as it is typed.
        """
        name = name or run.__name__
        p: Parser = self.choices.add_parser(
            name,
            help=summary,
            description=summary,
            formatter_class=argparse.RawDescriptionHelpFormatter,  # examples stay on their line
            epilog=f"example: texnet {name} {example}",
        )
        p.set_defaults(run_verb=run)
        p.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="(the same)")
        return p


def ranged(kind: Callable[[str], Number], what: str, low: Number, high: Number) -> Reads[Number]:
    """A type of argument: a number in ``low`` to ``high``."""

    def number(text: str) -> Number:
        try:
            if low <= kind(text) <= high:
                return kind(text)
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"'{text}' is not a {what} in {low:.10g} to {high:.10g}")

    return number


def whole(low: int, high: int = 2**31 - 1) -> Reads[int]:
    """A type of argument: a whole number in ``low`` to ``high``."""
    return ranged(int, "whole number", low, high)


def share(low: float, high: float) -> Reads[float]:
    """A type of argument: a number in ``low`` to ``high``."""
    return ranged(float, "number", low, high)


def extent(text: str) -> tuple[int, int]:
    """A type of argument: ``WIDTHxHEIGHT``, or one number for a square."""
    width, _, height = text.partition("x")
    side = whole(16, 8192)
    return side(width), side(height or width)


THREADS = whole(1, 256)


def computing(p: Parser, threads: int | str | None = None) -> None:
    """Where to compute, and with how many threads by default, where those can be chosen."""
    p.add_argument("--device", choices=("cpu", "cuda", "mps", "auto"), help="where to compute")
    if threads is not None:
        default: dict[str, Any] = {} if isinstance(threads, str) else {"default": threads}
        p.add_argument(
            "--threads", type=THREADS, help=f"CPU threads (default: {threads})", **default
        )
