"""Validating configurations: one line that names the key, what was found and what was wanted."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from texnet.errors import UsageError

Section = TypeVar("Section")
# Which member of a union a value was held against, by the union's key: no part of the key.
TAGS = {
    "generator": ("stylenet", "skip", "texturenet_v1", "texturenet_v2"),
    "images": ("stylization", "texture"),
}


def parse(cls: type[Section], content: Mapping[str, Any], source: str) -> Section:
    """Validate ``content`` as ``cls``; UsageError names ``source`` and the first bad key."""
    try:
        return TypeAdapter(cls).validate_python(content)
    except ValidationError as error:
        raise UsageError(f"{source}: {explain(error.errors()[0], cls)}") from error


def explain(problem: Mapping[str, Any], cls: type) -> str:
    """One line for one of pydantic's errors: the key, what was found, what was wanted."""
    loc = [part for part in problem["loc"] if part != "[key]"]
    named = [p for before, p in pairwise(["", *loc]) if p not in TAGS.get(before, ())]
    key = ".".join(map(str, named))
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        classes = [schema(cls), *schema(cls).get("$defs", {}).values()]
        known = sorted({name for c in classes for name in c.get("properties", {})})
        close = difflib.get_close_matches(key.rpartition(".")[2], known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else "config/README.md lists the keys"
        return f"unknown key '{key}'; {hint}"
    if problem["type"] == "missing":
        return f"key '{key}' is missing; config/README.md says what it holds"
    message = problem["msg"].removeprefix("Value error, ").replace(" after validation", "")
    message = message.replace("valid tuple", "list").replace("Keys should", "its keys should")
    message = re.sub(r"a (valid )?dictionary( or .*)?$", "a section with keys", message)
    message = re.sub("^(Input|String|Tuple|Dictionary) should", "it should", message)
    if not key or problem["type"] == "value_error":
        return f"'{key}': {message}" if key else message
    return f"'{key}' is {problem['input']!r:.80}; {message}"


def schema(cls: type) -> dict[str, Any]:
    """JSON schema (2020-12) of a configuration class."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **TypeAdapter(cls).json_schema(),
    }


def difference(theirs: Any, ours: Any, ignored: Collection[str] = ()) -> str | None:  # noqa: ANN401
    """The first key in which two JSON documents differ, with both values; None where in none.

    Args:
        theirs, ours: the documents.
        ignored: keys at the top that do not count.
    """
    return _difference(theirs, ours, ignored, "")


def _difference(theirs: Any, ours: Any, ignored: Collection[str], key: str) -> str | None:  # noqa: ANN401
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for name in {**ours, **theirs}:
            if name in ignored:
                continue
            inner = f"{key}.{name}".lstrip(".")
            if found := _difference(theirs.get(name), ours.get(name), (), inner):
                return found
        return None
    return None if theirs == ours else f"{key} ({theirs!r:.80}, here {ours!r:.80})"
