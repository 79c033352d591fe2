"""The verdict rule must be able to say every verdict."""

import math

import pytest

from texnet.claims import (
    CLAIM_COLUMNS,
    CLAIMS,
    VERDICTS,
    Evidence,
    by_run,
    combine,
    judge,
    markdown,
    speed_up,
)
from texnet.errors import DataError
from texnet.tables import Row

ROLES = {
    "instance": "in",
    "batch": "bn",
    "noise": "gatys",
    "from_instance": "fin",
    "from_batch": "fbn",
}


def evidence(good=True, noise=0.0):
    """Made-up runs in which IN is better than BN by the paper's story, or the other way round."""
    better, worse = ("in", "bn") if good else ("bn", "in")
    level = {better: 2.0, worse: 4.0, "gatys": 1.05, "fin": 1.0, "fbn": 1.0}
    rows = []
    for seed in range(3):
        for k, content in enumerate("abc"):
            wobble = 1 + noise * math.sin(9 * seed + 5 * k)

            def add(run, metric, value, seed=seed, content=content):
                rows.append(Row(run, "swirls", seed, content, metric, value, ""))

            for run, value in level.items():
                sign = 1 if run in (better, "gatys") else -1
                add(run, "objective", value * wobble**sign)
                add(run, "texture", value * wobble**sign)
                add(run, "content", value)
            add("gatys", "objective_start", 100.0 if good else 2.5)
            moved = {"fin": 0.1, "fbn": 0.3} if good else {"fin": 0.3, "fbn": 0.1}
            start = {"fin": level["in"], "fbn": level["bn"]}
            for run in ("fin", "fbn"):
                add(run, "objective_start", start[run])
                add(run, "moved_pixels", moved[run])
                add(run, "moved_features", moved[run])

    def curve(run, seed):
        rate = 0.1 if run == better else 0.02
        return [level[run] + 10 * math.exp(-rate * (i + seed)) for i in range(200)]

    histories = {run: {seed: curve(run, seed) for seed in range(3)} for run in ("in", "bn")}
    return Evidence(by_run(rows), histories, ROLES)


def verdicts(e):
    rows = [dict(zip(CLAIM_COLUMNS, row, strict=True)) for row in judge(e)]
    votes = [r for r in rows if r["expected"] != "(for information)"]
    return {claim: [r["verdict"] for r in votes if r["id"] == claim] for claim in CLAIMS}


def test_the_papers_story_is_supported():
    assert all(set(v) == {"supported"} for v in verdicts(evidence()).values())


def test_the_opposite_story_is_contradicted():
    assert all(combine(v) == "contradicted" for v in verdicts(evidence(good=False)).values())


def test_noise_as_large_as_the_effect_is_inconclusive():
    assert "inconclusive" in verdicts(evidence(noise=0.9))["C4"]


def test_missing_runs_are_not_tested():
    e = evidence()
    bare = Evidence({}, {}, e.roles)
    assert all(set(v) == {"not tested"} for v in verdicts(bare).values())
    without_baselines = Evidence(
        {k: v for k, v in e.scores.items() if k[0] in ("in", "bn")}, e.histories, e.roles
    )
    found = verdicts(without_baselines)
    assert set(found["C1"]) == {"supported"} and set(found["C2"]) == {"not tested"}


def rows_of(e):
    return [dict(zip(CLAIM_COLUMNS, row, strict=True)) for row in judge(e)]


def test_rows_carry_the_numbers_behind_the_verdict():
    for r in rows_of(evidence()):
        assert (
            r["verdict"] in VERDICTS and r["ci_low"] <= r["value"] <= r["ci_high"] and r["n"] >= 3
        )
    ratio = next(r for r in rows_of(evidence()) if r["measure"].startswith("objective on held-out"))
    assert ratio["value"] == pytest.approx(2)  # BN at 4, IN at 2


def test_gaps_are_measured_from_what_they_name():
    found = {r["measure"]: r["value"] for r in rows_of(evidence())}
    best = found["gap of the start to the best known objective, BN over IN"]
    assert best == pytest.approx((4 - 1) / (2 - 1))
    gatys = found["gap to Gatys' result on held-out images, BN over IN"]
    assert gatys == pytest.approx((4 - 1.05) / (2 - 1.05))


def test_a_generator_below_gatys_counts_as_one_percent_above():
    e = evidence()
    below = {s: dict.fromkeys("abc", 0.9) for s in range(3)}
    e = Evidence({**e.scores, ("in", "objective"): below}, e.histories, e.roles)
    found = next(r for r in rows_of(e) if r["measure"].startswith("gap to Gatys"))
    assert found["value"] == pytest.approx((4 / 1.05 - 1) / 0.01)


def test_scores_of_other_seeds_are_no_missing_run():
    e = evidence()
    fewer = {s: v for s, v in e.scores["in", "objective"].items() if s < 2}
    broken = Evidence({**e.scores, ("in", "objective"): fewer}, e.histories, e.roles)
    with pytest.raises(DataError, match="other seeds or images"):
        judge(broken)
    scores = {key: value for key, value in e.scores.items() if key != ("in", "texture")}
    with pytest.raises(DataError, match="run 'in' has no metric 'texture'"):
        judge(Evidence(scores, e.histories, e.roles))


def test_information_has_no_vote():
    e = evidence()
    turned = {s: {c: 0.1 for c in images} for s, images in e.scores["bn", "content"].items()}
    e = Evidence({**e.scores, ("bn", "content"): turned}, e.histories, e.roles)
    row = next(r for r in rows_of(e) if r["measure"].startswith("content loss"))
    assert row["verdict"] == "contradicted" and row["expected"] == "(for information)"
    assert "| **C4** IN comes closer" in markdown(judge(e))
    assert "contradicted" not in markdown(judge(e))


def test_speed_up_counts_iterations_to_a_level_that_both_reach():
    bn = [float(v) for v in range(100, 0, -1)]
    inst = [float(max(1, 100 - 2 * i)) for i in range(100)]  # falls twice as fast
    roles = {"batch": "bn", "instance": "in"}

    def factor(batch, instance):
        e = Evidence({}, {"bn": {0: batch}, "in": {0: instance}}, roles)
        return 10 ** speed_up(e)[0][0]

    assert factor(bn, inst) == pytest.approx(2, rel=0.1)
    assert factor(inst, bn) == pytest.approx(1 / factor(bn, inst))
    assert factor(bn, bn) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["supported", "supported"], "supported"),
        (["supported", "contradicted", "not tested"], "contradicted"),
        (["supported", "inconclusive"], "inconclusive"),
        (["inconclusive", "not tested"], "not tested"),
    ],
)
def test_a_claim_is_as_strong_as_its_weakest_measure(given, expected):
    assert combine(given) == expected
