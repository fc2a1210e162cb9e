"""What several seeds of a training run show."""

import pytest
import scipy.stats

from experiments.reproduce import trained


@pytest.mark.parametrize("seeds", [[1.0, 4.0], [2.0, 2.5, -1.0]])
def test_the_standard_error_is_that_of_scipy(seeds):
    wanted = pytest.approx(scipy.stats.sem(seeds), rel=1e-12)
    assert trained.standard_error(seeds) == wanted


def test_one_seed_has_no_standard_error():
    assert trained.standard_error([1.0]) is None
    assert trained.standard_error(None) is None


@pytest.mark.parametrize(
    ("interval", "seeds", "outcome"),
    [
        ([0.5, 0.1, 0.9], [0.4, 0.6], True),
        ([0.5, 0.1, 0.9], [-0.1, 1.1], None),
        ([0.5, -0.1, 0.9], [0.4, 0.6], None),
        ([-0.5, -0.9, -0.1], [-0.4, -0.6], False),
        ([-0.5, -0.9, 0.1], [-0.4, -0.6], None),
        ([-0.5, -0.9, -0.1], [0.1, -1.1], None),
        ([-0.5, -0.9, -0.1], [0.0, -1.0], None),
        ([0.0, 0.0, 0.0], [0.0, 0.0], None),
    ],
)
def test_an_outcome_needs_the_interval_and_every_seed(interval, seeds, outcome):
    assert trained.outcome(interval, seeds) is outcome


def test_of_many_cells_an_outcome_needs_more():
    barely, seeds = [0.5, 0.05, 0.95], [0.4, 0.6]
    assert trained.outcome(barely, seeds) is True
    assert trained.outcome(barely, seeds, cells=5) is None
    assert trained.outcome([0.5, 0.3, 0.7], seeds, cells=5) is True
