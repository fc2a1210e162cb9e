"""The judge: three verdicts, no NaN, no violation below rounding or unconfirmed."""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

from jsharp.stats import Slope
from theory.claim import (
    QUICK,
    ROUNDING,
    Claim,
    Exponent,
    Sides,
    Twin,
    exactly,
    examine,
    join,
    judge,
    one_by_one,
    ratio,
    scaled,
    stack,
    unstack,
    vectorised,
)

BATCH = {"left": np.array([0.5, 0.9, 0.2]), "right": np.array([1.0, 1.0, 1.0])}


def plain(batch):
    return exactly(batch["left"], batch["right"])


def test_the_tightest_instance_is_the_witness():
    verdict = judge([BATCH], plain)
    assert verdict.outcome == "holds"
    assert (verdict.left, verdict.right, verdict.tightness) == (0.9, 1.0, 0.9)
    assert verdict.witness == {"left": 0.9, "right": 1.0}
    assert (verdict.instances, verdict.queries, verdict.level) == (3, 0, 0.0)


def test_one_violation_in_any_batch_fails():
    bad = {"left": np.array([0.1, 2.0]), "right": np.array([1.0, 1.0])}
    verdict = judge([BATCH, bad], plain)
    assert verdict.outcome == "fails"
    assert verdict.witness == {"left": 2.0, "right": 1.0}
    assert verdict.instances == 5


@pytest.mark.parametrize(
    ("excess", "outcome"), [(0.5 * ROUNDING, "holds"), (2 * ROUNDING, "fails")]
)
def test_rounding_is_the_border(excess, outcome):
    batch = {"left": np.array([3.0 * (1 + excess)]), "right": np.array([3.0])}
    assert judge([batch], plain).outcome == outcome


def test_nan_is_an_error_that_names_the_instance():
    batch = {"left": np.array([0.1, np.nan]), "right": np.array([1.0, 1.0])}
    with pytest.raises(FloatingPointError, match=r"\[1\]"):
        judge([batch], plain)


def test_infinity_on_both_sides_is_an_error_and_on_the_right_alone_is_not():
    batch = {"left": np.array([0.1, np.inf]), "right": np.array([np.inf, np.inf])}
    with pytest.raises(FloatingPointError, match=r"inf on both, at \[1\]"):
        judge([batch], plain)
    assert judge([{name: a[:1] for name, a in batch.items()}], plain).tightness == 0.0


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(0.0, 0.1, "holds"), (0.0, 0.11, "undecided"), (0.11, 0.2, "fails")],
)
def test_three_verdicts_of_an_interval(low, high, outcome):
    sides = lambda batch: Sides(
        left=np.array([0.05]),
        right=np.array([0.1]),
        low=np.array([low]),
        high=np.array([high]),
        level=1e-4,
        queries=70,
    )
    verdict = judge([{"a": np.zeros(1)}], sides)
    assert (verdict.outcome, verdict.level, verdict.queries) == (outcome, 1e-4, 70)


def test_the_level_adds_up_over_instances():
    sides = lambda batch: plain(batch)._replace(level=1e-4)
    assert judge([BATCH, BATCH], sides).level == pytest.approx(6e-4)


def test_a_violation_counts_only_if_the_exact_road_confirms_it():
    batch = {"left": np.array([1.5, 1.2]), "right": np.array([1.0, 1.0])}
    deny = lambda instance: (Fraction(1), Fraction(1))
    acquitted = judge([batch], plain, exact=deny)
    assert (acquitted.outcome, acquitted.left, acquitted.right) == ("holds", 1.0, 1.0)
    second = lambda i: (Fraction(int(i["left"] == 1.2)), Fraction(1, 2))
    confirmed = judge([batch], plain, exact=second)
    assert confirmed.outcome == "fails"
    assert confirmed.witness["left"] == 1.2


def test_an_acquitted_instance_is_not_shown_as_the_tightest():
    batch = {"left": np.array([1.5, 0.7, 0.2]), "right": np.array([1.0, 1.0, 1.0])}
    deny = lambda instance: (Fraction(1, 2), Fraction(1))
    verdict = judge([batch], plain, exact=deny)
    assert (verdict.outcome, verdict.tightness) == ("holds", 0.7)
    assert verdict.witness["left"] == 0.7


def test_ratio_at_zero():
    left, right = np.array([0.0, 1.0, 1.0]), np.array([0.0, 0.0, np.inf])
    assert ratio(left, right).tolist() == [0.0, np.inf, 0.0]


def test_batches_stack_join_and_come_apart():
    parts = unstack(BATCH)
    assert [p["left"] for p in parts] == [0.5, 0.9, 0.2]
    rejoined = join(stack(parts[:1]), stack(parts[1:]))
    assert all(np.array_equal(rejoined[name], BATCH[name]) for name in BATCH)


def test_vectorised_is_the_host_loop_and_one_instance_gives_the_same_bits():
    pair = lambda i: (jnp.sum(jnp.exp(i["a"]) ** 1.3), jnp.sum(jnp.cos(i["a"])))
    batch = {"a": np.random.default_rng(0).normal(size=(7, 5))}
    together = vectorised(pair)(batch)
    host = lambda i: (np.sum(np.exp(i["a"]) ** 1.3), np.sum(np.cos(i["a"])))
    np.testing.assert_allclose(together.left, one_by_one(host)(batch).left, rtol=1e-14)
    np.testing.assert_allclose(
        together.right, one_by_one(host)(batch).right, rtol=1e-14
    )
    for k in range(7):
        alone = vectorised(pair)({"a": batch["a"][k : k + 1]})
        assert (alone.left[0], alone.right[0]) == (together.left[k], together.right[k])


HALF = Twin("half", scaled(plain, 0.5))


def claim(*, expected="holds", twins=(HALF,), exponents=None):
    return Claim(
        "Lem 0.0 (part)",
        "left <= right",
        "exact",
        lambda key, effort: [BATCH],
        plain,
        twins,
        expected=expected,
        exponents=exponents,
    )


def test_a_report_is_as_expected_only_with_its_twins(key):
    report = examine(key, claim(), effort=QUICK)
    assert report.as_expected and report.twins_as_expected == 1
    assert report.twins["half"].tightness == pytest.approx(1.8)


def test_a_twin_that_passes_is_not_as_expected(key):
    toothless = claim(twins=(Twin("0.95 x", scaled(plain, 0.95)),))
    report = examine(key, toothless, effort=QUICK)
    assert report.verdict.outcome == "holds" and not report.as_expected


def test_a_claim_known_to_fail_that_holds_is_not_as_expected(key):
    lost = claim(expected="fails", twins=())
    assert not examine(key, lost, effort=QUICK).as_expected


@pytest.mark.parametrize(
    ("bound", "predicted", "agrees"),
    [
        ("at most", 2.0, True),  # the interval is [1.8, 2.2]
        ("at most", 1.9, True),
        ("at most", 1.7, False),
        ("at least", 2.1, True),
        ("at least", 2.3, False),
    ],
)
def test_a_rate_on_the_wrong_side_is_not_as_expected(key, bound, predicted, agrees):
    rate = Exponent("m against n", predicted, bound, Slope(2.0, 1.8, 2.2))
    report = examine(key, claim(exponents=lambda effort: (rate,)), effort=QUICK)
    assert report.exponents == (rate,) and rate.agrees == agrees
    assert report.as_expected == agrees


def test_the_paper_id_drops_the_part():
    assert claim().paper_id == "Lem 0.0"
