"""What a result depends on besides its inputs: the library's own code."""

from __future__ import annotations

import ast
import functools
import hashlib
from pathlib import Path


def digest(module: str, library: Path | None = None) -> str:
    """Twelve hexadecimal digits of a library module and of all the library modules it imports.

    Blind to comments, docstrings and layout, so that only a change of what is computed counts.

    Args:
        module: name without the package, for example ``training``.
        library: directory of the modules; this package by default.
    """
    folder = library or Path(__file__).parent
    todo, seen, sources = {module}, set(), []
    while todo:
        name = todo.pop()
        seen.add(name)
        imported, dumped = _reduced((folder / f"{name}.py").read_text())
        modules = {name for name in imported if (folder / f"{name}.py").is_file()}
        todo |= modules - seen
        sources.append(name + dumped)
    return hashlib.sha256("".join(sorted(sources)).encode()).hexdigest()[:12]


@functools.cache
def _reduced(text: str) -> tuple[frozenset[str], str]:
    """Of a module's text: the library modules that it imports, and what it computes."""
    tree = ast.parse(text)
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (module := node.module or "").startswith("texnet"):
            inside = module.partition(".")[2]
            imported |= {inside} if inside else {alias.name for alias in node.names}
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [statement for statement in node.body if not _is_string(statement)]
    return frozenset(imported), ast.dump(tree)


def _is_string(statement: ast.stmt) -> bool:
    """Whether a statement is a bare string: a docstring, of an attribute too."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
        return False
    return isinstance(statement.value.value, str)
