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
    speed_up,
)
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
    return {claim: [r["verdict"] for r in rows if r["id"] == claim] for claim in CLAIMS}


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


def test_rows_carry_the_numbers_behind_the_verdict():
    for row in judge(evidence()):
        r = dict(zip(CLAIM_COLUMNS, row, strict=True))
        assert (
            r["verdict"] in VERDICTS and r["ci_low"] <= r["value"] <= r["ci_high"] and r["n"] >= 3
        )
    ratio = next(r for r in judge(evidence()) if r[3].endswith("objective on held-out images"))
    assert ratio[5] == pytest.approx(math.log10(2))  # BN at 4, IN at 2


def test_gap_is_measured_from_the_best_optimisation():
    """IN at 2 and BN at 4 above a best of 1: relative gaps 1 and 3."""
    row = next(r for r in judge(evidence()) if "gap to converged" in r[3])
    assert row[5] == pytest.approx(math.log10(3))


def test_speed_up_counts_iterations_to_the_others_final_level():
    bn = [float(v) for v in range(100, 0, -1)]
    inst = [float(max(1, 100 - 2 * i)) for i in range(100)]  # falls twice as fast
    roles = {"batch": "bn", "instance": "in"}
    found = speed_up(Evidence({}, {"bn": {0: bn}, "in": {0: inst}}, roles))
    assert found[0][0] == pytest.approx(2, rel=0.1)
    slower = speed_up(Evidence({}, {"bn": {0: inst}, "in": {0: bn}}, roles))
    assert slower[0][0] < 1


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
