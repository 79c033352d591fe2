"""What every rule file uses: the validated experiment, its runs, and a digest of library code."""

import ast
import hashlib
import json
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

from texnet import config as schema
from texnet.errors import UsageError

try:
    EXPERIMENT = schema.parse(schema.Experiment, config, "configuration")
except UsageError as error:
    raise WorkflowError(str(error)) from None

RUNS = EXPERIMENT.all_runs()
TRAININGS = [name for name, run in RUNS.items() if isinstance(run, schema.Training)]
BASELINES = [name for name in RUNS if name not in TRAININGS]
# A training on the CPU takes no GPU; elsewhere each takes one of those that the profile allows.
GPUS = 0 if EXPERIMENT.device == "cpu" else 1
LIBRARY = Path(schema.__file__).parent


def seeds_of(name):
    """Directories of a run of the configuration, one per seed."""
    return [f"results/{name}_seed{seed}" for seed in EXPERIMENT.seeds]


@cache
def code(module):
    """Digest of a library module and of all it imports, blind to comments and docstrings."""
    todo, seen, sources = {module}, set(), []
    while todo:
        name = todo.pop()
        seen.add(name)
        tree = ast.parse((LIBRARY / f"{name}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("texnet"):
                inside = node.module.partition(".")[2]
                named = {inside} if inside else {alias.name for alias in node.names}
                todo |= named - seen
            # A bare string is a docstring, of an attribute too.
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
                node.body = [n for n in node.body if not is_string(n)]
        sources.append(name + ast.dump(tree))
    return hashlib.sha256("".join(sorted(sources)).encode()).hexdigest()[:12]


def is_string(node):
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
