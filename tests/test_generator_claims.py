"""Claims on the generators: made-up numbers for and against each, and what each number is."""

import dataclasses
import math

import pytest
from stories import evidence, rows_of, verdicts

from texnet.generator_claims import CLAIMS

TESTED = [claim for claim in CLAIMS if claim != "C27"]


def only(found, claim, *words):
    """The one row of a claim whose measure has all of the words."""
    (row,) = (r for r in found if r["id"] == claim and all(w in r["measure"] for w in words))
    return row


@pytest.fixture(scope="module")
def good():
    return rows_of(evidence())


@pytest.mark.parametrize("claim", TESTED)
def test_numbers_decide_for_and_against(claim):
    """Every measure with a vote, not only one of them, says the verdict."""
    for told, expected in ((True, "supported"), (False, "contradicted")):
        (found,) = verdicts(evidence(told), [claim]).values()
        assert found and set(found) == {expected}


def test_classification_is_never_tested():
    for told in (True, False):
        assert verdicts(evidence(told), ["C27"]) == {"C27": ["not tested"]}


@pytest.mark.parametrize(
    ("claim", "words", "value"),
    [
        ("C7", ["the same, BN"], 0.5),
        ("C7", ["over its deviation, IN"], 0.01),
        ("C8", ["new crops over few"], 9 / 7.5),
        ("C8", ["outer over inner half, the same"], (3 / 2) / (2.2 / 2)),
        ("C8", ["outer over inner half, BN", "over IN"], (3 / 2) / (2.2 / 2)),
        ("C9", ["held-out"], 9 / 6),
        ("C15", ["deviation over noise"], 0.05 / 0.01),
        ("C15", ["the uniform half of the content"], 0.06 / 0.005),
        ("C15", ["uniform over detailed"], 0.06 / 0.04),
        ("C15", ["texture loss"], 3.6 / 3),
        ("C19", ["whole optimisation over that of one pass"], 50 / 0.1),
        ("C19", ["equal objective"], 20 / 0.1),
        ("C19", ["one evaluation over one pass"], 5),
        ("C20", ["as large as the paper's"], 900 / 100),
        ("C20", ["of this scale"], 300 / 60),
        ("C21", ["BN"], 1.02),
        ("C21", ["lambda"], 0.98),
        ("C22", ["StyleNet"], 1.5),
        ("C22", ["textures of V1"], 1.6),
        ("C23", ["held-out", "StyleNet"], 4 / 2),
        ("C23", ["held-out", "V1"], 9 / 6),
        ("C23", ["held-out", "skip"], 4.5 / 3),
        ("C26", ["test mode, IN"], 0),  # equal to the bit
        ("C26", ["in a batch, IN"], 0.02),
        ("C26", ["test mode, BN"], 20),
        ("C26", ["in a batch, BN"], 15),
    ],
)
def test_a_number_is_that_of_the_runs_that_it_names(good, claim, words, value):
    assert only(good, claim, *words)["value"] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(
    ("words", "above", "below"),
    [
        (["IN at the first layer over IN"], "in_first", "in"),
        (["BN over IN at the first layer"], "bn", "in_first"),
        (["LRN over IN at the first layer"], "lrn", "in_first"),
    ],
)
def test_figure_2_compares_training_and_held_out_objectives(good, words, above, below):
    e = evidence()
    level = {"in": 2.0, "in_first": 3.0, "bn": 4.0, "lrn": 5.0}
    row = only(good, "C6", "held-out", *words)
    assert row["value"] == pytest.approx(level[above] / level[below])
    ratios = [
        sum(e.histories[above][seed][-20:]) / sum(e.histories[below][seed][-20:])
        for seed in range(3)
    ]
    row = only(good, "C6", "training objective", *words)
    assert row["value"] == pytest.approx(math.prod(ratios) ** (1 / 3)) and row["n"] == 3
    assert row["runs"] == f"{above} {below}"


def test_v1_is_compared_over_all_of_its_training(good):
    e = evidence()
    logs = [
        math.log(b / a)
        for seed in range(3)
        for a, b in zip(e.histories["pyr_in"][seed], e.histories["pyr_bn"][seed], strict=True)
    ]
    row = only(good, "C9", "training objective")
    assert row["value"] == pytest.approx(math.exp(sum(logs) / len(logs)))
    assert row["runs"] == "pyr_bn pyr_in"


def test_the_worst_size_counts_for_each_image():
    e = evidence()
    scores = dict(e.scores)
    usual = {s: {"a": 2.0, "b": 4.0, "c": 2.0} for s in range(3)}
    scores["in", "texture"] = usual
    for size, factors in ((64, (3, 1, 1)), (192, (1, 0.5, 1)), (384, (2, 0.1, 1))):
        scores["in", f"texture_{size}px"] = {
            s: {c: f * usual[s][c] for c, f in zip("abc", factors, strict=True)} for s in usual
        }
    row = only(rows_of(dataclasses.replace(e, scores=scores)), "C22", "StyleNet")
    assert row["value"] == pytest.approx((3 * 1 * 1) ** (1 / 3)) and row["n"] == 9
    without = rows_of(dataclasses.replace(e, sizes=()))
    assert {r["verdict"] for r in without if r["id"] == "C22"} == {"not tested"}


def test_a_time_is_compared_at_the_sizes_that_both_have(good):
    """One pass was timed, and its memory measured, at a size that the other has not."""
    e = evidence()
    assert e.scores["speed", "forward_instance"][0]["1024px"] == 1e9
    assert only(good, "C21", "BN")["n"] == 3 * 2
    assert only(good, "C20", "of this scale")["n"] == 2
    assert only(good, "C19", "equal objective")["n"] == 3


def runs_of(e):
    return sorted({run for run, _ in e.scores})


@pytest.mark.parametrize("run", runs_of(evidence()))
def test_without_a_run_what_names_it_is_not_tested_and_the_rest_stands(good, run):
    e = evidence()
    e = dataclasses.replace(
        e,
        scores={key: value for key, value in e.scores.items() if key[0] != run},
        histories={name: curves for name, curves in e.histories.items() if name != run},
    )
    found = rows_of(e)
    named = [i for i, row in enumerate(good) if run in row["runs"].split()]
    assert named and any(good[i]["verdict"] == "supported" for i in named)
    for i, row in enumerate(found):
        if i in named:
            assert (row["verdict"], row["value"]) == ("not tested", None)
        else:
            assert row == good[i]
