"""YAML files of the configuration, without what YAML reads as something else than it looks like."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from texnet.artifacts import check_file
from texnet.errors import DataError, UsageError

LARGEST = 100_000
"""Values that a file may stand for: aliases of aliases multiply, eight lines to 43 million."""
# In YAML 1.1, which PyYAML and Snakemake read, 010 is eight and 12:30 is 750.
ODD_NUMBER = re.compile(r"[-+]?0[0-7_]+|[-+]?[0-9][0-9_]*(:[0-9.]+)+")


class Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """PyYAML's safe one, which names the line of a key that comes twice and of odd numbers."""

    def construct_document(self, node: yaml.Node) -> Any:  # noqa: ANN401 (whatever it holds)
        _count(node, {})
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                raise _refused(key, f"key {key.value} is no text; put it in quotes")
            if key.value in lines:
                raise _refused(
                    key, f"key '{key.value}' is in line {lines[key.value]} too; leave out one"
                )
            lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        made = self.construct_yaml_float if node.tag.endswith("float") else self.construct_yaml_int
        if ODD_NUMBER.fullmatch(node.value):
            raise _refused(node, f"{node.value} is {made(node):g} in YAML; write that, or quote it")
        return made(node)


for kind in ("int", "float"):
    Loader.add_constructor(f"tag:yaml.org,2002:{kind}", Loader.construct_number)


def _refused(node: yaml.Node, reason: str) -> UsageError:
    return UsageError(f"line {node.start_mark.line + 1}: {reason}")


def _count(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """Values below a node, those of aliases each time; UsageError for too many."""
    if node in known:
        if not known[node]:
            raise _refused(node, "this holds itself; leave out the alias")
        return known[node]
    known[node] = 0  # being counted
    parts = node.value if isinstance(node, yaml.CollectionNode) else []
    if isinstance(node, yaml.MappingNode):
        parts = [each for pair in parts for each in pair]
    total = 1 + sum(_count(part, known) for part in parts)
    if total > LARGEST:
        raise _refused(node, f"stands for more than {LARGEST} values; leave out aliases")
    known[node] = total
    return total


def read_yaml(path: Path) -> dict[str, Any]:
    """The keys of a YAML file.

    Raises:
        MissingError: no such file.
        DataError: it is not YAML.
        UsageError: it holds no keys; names the line of a key that comes twice or is no text, of a
            number that is another one in YAML, and of aliases that stand for too much.
    """
    try:
        content = yaml.load(check_file(path, "YAML").read_text(encoding="utf-8"), Loader)
    except UsageError as error:
        raise UsageError(f"{path} {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not valid YAML ({error})") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: holds no keys; config/README.md lists them")
    return content


def read_json_text(text: str) -> dict[str, Any]:
    """The keys of JSON text; UsageError where it is none, or a key comes twice."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except ValueError as error:
        raise UsageError(f"configuration: is not valid JSON ({error})") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key '{key}' comes twice")
        found[key] = value
    return found
