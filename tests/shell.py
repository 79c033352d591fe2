"""Runs many commands of Python in little time: each in a fork of one process with all imported.

What a command leaves behind in its process, such as threads or settings, is gone with it.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import traceback

IMPORTED = ("snakemake.cli", "torch.fx.experimental.symbolic_shapes", "texnet.experiment",
            "texnet.own_commands", "texnet.own_scores", "texnet.training")  # fmt: skip


class Shell:
    """Commands in the environment of the tests, one after the other.

    Args:
        library: folder whose ``texnet`` is imported.
    """

    def __init__(self, library):
        names = {"PYTHONPATH": str(library), "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
        kept = {k: v for k, v in os.environ.items() if k != "TEXNET_WEIGHTS"}
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=kept | names,
        )

    def __call__(self, folder, program, *arguments):
        """Exit code and output of ``texnet``, ``snakemake`` or ``python`` (whose argument is a
        text) in a folder."""
        asked = {"folder": str(folder), "program": program, "arguments": arguments}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        told = json.loads(self.process.stdout.readline())
        return told["code"], told["output"]

    def close(self):
        self.process.communicate()


def started(program, arguments):
    """Do what a program does; returns or raises as it would end."""
    if program == "snakemake":
        from snakemake.cli import main

        return main(list(arguments))
    if program == "texnet":
        from texnet.__main__ import main

        return main(list(arguments))
    return exec(compile(arguments[0], "snippet", "exec"), {"__name__": "__main__"})


def fork(folder, program, arguments):
    """The exit code and the output of a program in a process of its own."""
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if not child:
            code = 1
            try:
                os.chdir(folder)
                for number in (1, 2):
                    os.dup2(output.fileno(), number)
                code = started(program, arguments) or 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(bool(end.code))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read().decode(errors="replace")


def serve():
    """Answer what is asked, a line of JSON each, until there is no more."""
    for name in IMPORTED:
        importlib.import_module(name)
    for name in ("claims", "releases", "scoring", "speed"):  # which keeps what was read
        importlib.import_module("texnet.sources").digest(name)

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        asked = json.loads(line)
        code, output = fork(**asked)
        answers.write(json.dumps({"code": code, "output": output}) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
