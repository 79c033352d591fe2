"""Mistakes a user can make, each with the exit code of its kind.

The command line prints ``str(error)`` as one line and exits with ``error.code``; the message says
what is wrong, where, what was found, what was wanted and what to do.
"""


class TexnetError(Exception):
    """Base of every error that is the input's fault, not the program's."""

    code = 1


class DifferenceError(TexnetError):
    """Results that differ from the expected ones."""

    code = 1


class UsageError(TexnetError):
    """A wrong argument, configuration key or value."""

    code = 2


class DataError(TexnetError):
    """A file that exists but does not hold what it should (truncated, wrong hash, not an image)."""

    code = 65


class MissingError(TexnetError):
    """An input file that is not there or cannot be read."""

    code = 66


class DivergenceError(TexnetError):
    """Training or optimisation produced a value that is not finite."""

    code = 70


class WriteError(TexnetError):
    """An output that could not be written (disk full, read-only directory)."""

    code = 74


class UnfinishedError(TexnetError):
    """A computation that was stopped, or could not begin yet: the same command goes on with it."""

    code = 75
