"""From intervals to verdicts: by enumeration, and by the law they are made for."""

import itertools

import numpy as np
import pytest
import scipy.stats

from experiments.reproduce import verdicts
from experiments.reproduce.verdicts import LEVEL
from jsharp.commands.results import SEED
from jsharp.stats import mean_interval

OUTCOMES = [
    list(x) for n in range(4) for x in itertools.product((1, 0, None), repeat=n)
]


@pytest.mark.parametrize(
    "interval, outcome",
    [
        ([1.0, 0.1, 2.0], True),
        ([-1.0, -2.0, -0.1], False),
        ([0.1, -0.1, 0.2], None),
        ([0.1, 0.0, 0.2], None),
        ([-0.1, -0.2, 0.0], None),
        ([3.0, 0.5, None], True),
        ([3.0, -0.5, None], None),
        ([None, None, None], None),
        (None, None),
    ],
)
def test_what_an_interval_shows(interval, outcome):
    assert verdicts.sign(interval) is outcome
    if interval and None not in interval:
        assert verdicts.sign([x + 0.5 for x in interval], than=0.5) is outcome


@pytest.mark.parametrize("outcomes", OUTCOMES)
def test_what_cells_show_together(outcomes):
    outcomes = [None if x is None else bool(x) for x in outcomes]
    yes, no = outcomes.count(True), outcomes.count(False)
    size = len(outcomes)
    # Every completion of the undecided cells agrees, or nothing is said.
    filled = [yes + extra for extra in range(size - yes - no + 1)]
    every = {n == size for n in filled} if size else {True, False}
    some = {n > 0 for n in filled} if size else {True, False}
    only = lambda values: values.pop() if len(values) == 1 else None
    assert verdicts.everywhere(outcomes) is only(every)
    assert verdicts.somewhere(outcomes) is only(some)
    assert verdicts.mostly(outcomes) is only({yes > no, yes >= no})


def test_evidence_names_every_cell_once():
    cells = [{"model": m, "task": "t"} for m in "abc"]
    text = verdicts.counted(cells, [True, None, True])
    assert text == "yes: 2 (a t, c t); nothing shown: 1 (b t)"
    assert verdicts.counted([], []) == "no cell"


def test_weights_of_prompts_are_their_bootstrap():
    values = np.random.default_rng(5).normal(size=20)
    found = verdicts.over_prompts(lambda weights: weights @ values, 20)
    expected = mean_interval(values, level=LEVEL, seed=SEED)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("cells", [1, 2, 12])
def test_an_interval_is_widened_as_a_normal_law_s_is(cells):
    law = scipy.stats.norm(3.0, 0.5)
    of = lambda level: [3.0, *law.interval(1 - level)]
    found = verdicts.widened(of(LEVEL), cells)
    assert found == pytest.approx(of(LEVEL / cells))
    assert (verdicts.widened([2.0, 1.0, None], cells) or [])[2] is None
    assert verdicts.widened([None, 1.0, None], cells) == [None, 1.0, None]
    assert verdicts.widened(None, cells) is None


def test_one_interval_among_many_shows_less():
    barely = [1.0, 0.1, 1.9]
    assert verdicts.signs([barely]) == [True]
    assert verdicts.signs([barely] * 8) == [None] * 8
    assert verdicts.signs([[1.0, 0.5, 1.5], None], than=-1.0) == [True, None]
    assert verdicts.signs([]) == []
