"""The catalogue of faults: each has tests that exist, or the reason why it has none."""

import ast
import csv
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
with (Path(__file__).parent / "cases.csv").open(newline="") as stream:
    CASES = list(csv.DictReader(stream))


@functools.cache
def functions_of(file):
    tree = ast.parse((ROOT / file).read_text())
    found = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert len(set(found)) == len(found), f"{file}: a function hides another of its name"
    return {name for name in found if name.startswith("test_")}


def test_the_catalogue_is_whole():
    assert [int(case["number"]) for case in CASES] == list(range(1, 81))
    assert all(case["case"] and case["wanted"] for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=[case["number"] for case in CASES])
def test_case_has_tests_or_a_reason(case):
    nodes, reason = case["test"].split(), case["why_not"].strip()
    what = f"case {case['number']} ({case['case']})"
    assert nodes or reason, f"{what} has neither a test nor a reason why not"
    assert not (nodes and reason), f"{what} has tests and a reason why not: one of them is stale"
    for node in nodes:
        file, _, name = node.partition("::")
        assert file.startswith("tests/") and (ROOT / file).is_file(), f"{what}: no file {file}"
        assert name in functions_of(file), f"{what}: no test {name} in {file}"
