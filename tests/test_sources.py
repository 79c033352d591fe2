"""The digest that decides what is made again."""

import pytest

from texnet.sources import digest

A = '"""Doc."""\nfrom texnet.b import f\n\n\ndef g(x):\n    """Doc."""\n    return f(x) + 1\n'
B = "from texnet import c\n\n\ndef f(x):\n    return c.h(x)\n"
C = "def h(x):\n    return x * 2\n"


@pytest.fixture
def library(tmp_path):
    for name, text in {"a": A, "b": B, "c": C, "d": "y = 1\n"}.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "before", "after", "changes"),
    [
        ("a", "Doc.", "Other words.", False),
        ("a", "    return", "    # why\n\n    return", False),
        ("c", "x * 2", "(x * 2)", False),
        ("a", "+ 1", "+ 2", True),
        ("b", "c.h(x)", "c.h(-x)", True),
        ("c", "x * 2", "x * 3", True),
        ("d", "1", "2", False),
    ],
)
def test_only_code_that_is_imported_counts(library, name, before, after, changes):
    first = digest("a", library)
    path = library / f"{name}.py"
    path.write_text(path.read_text().replace(before, after))
    assert (digest("a", library) != first) == changes


def test_the_library_itself():
    assert digest("training") == digest("training") != digest("tables")
