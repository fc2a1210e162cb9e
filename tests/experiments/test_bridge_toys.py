"""The table made of a language model's responses, and the algorithms on it."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bridge import laws, toys
from experiments.bridge.grids import OPTIONS
from experiments.bridge.setting import Drawn
from theory.quantities import pi_star_beta

# Two prompts: responses (1,), (2,), ... of these probabilities; (0,) is the mode.
SEEN = ({(1,): 0.2, (2,): 0.1}, {(1,): 0.05, (3,): 0.15, (4,): 0.2})
MASS = np.array([0.4, 0.6])


@pytest.fixture
def drawn():
    token_ids = [[(0,), (1,), (2,), (1,)], [(1,), (3,), (4,), (0,)]]
    known = [{(0,): q} | seen for q, seen in zip(MASS, SEEN, strict=True)]
    log_prob = [
        [math.log(p[y]) for y in row] for p, row in zip(known, token_ids, strict=True)
    ]
    on_mode = [[y == (0,) for y in row] for row in token_ids]
    return Drawn(np.array(log_prob), token_ids, np.array(on_mode))


def test_cells_are_the_mode_what_was_drawn_and_the_rest(drawn):
    pi = np.exp(toys.base_logits(drawn, MASS))
    np.testing.assert_allclose(pi.sum(1), 1)
    # Prompt 0: 0.4, 0.2, 0.1 and 0.3 unseen: ceil(2 * 0.3 / 0.4) = 2 cells.
    np.testing.assert_allclose(pi[0], [0.4, 0.2, 0.1, 0.15, 0.15])
    np.testing.assert_allclose(pi[1, :4], [0.6, 0.05, 0.15, 0.2])
    assert (pi[1, 4:] == 0).all()


def test_a_mode_that_no_draw_showed_is_there(drawn):
    rare = drawn._replace(
        token_ids=[[(1,), (2,), (1,), (1,)], drawn.token_ids[1]],
        log_prob=np.log([[0.2, 0.1, 0.2, 0.2], [0.05, 0.15, 0.2, 0.6]]),
        on_mode=np.array([[False] * 4, [False, False, False, True]]),
    )
    pi = np.exp(toys.base_logits(rare, MASS))
    np.testing.assert_allclose(pi[0], [0.4, 0.2, 0.1, 0.15, 0.15])


def test_more_than_all_mass_is_refused(drawn):
    with pytest.raises(ValueError, match=r"sum of 1\.2"):
        toys.base_logits(drawn, np.array([0.9, 0.6]))


@pytest.fixture(scope="module")
def logits():
    """Many prompts of one row: their mean is an expectation."""
    row = np.log([0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05])
    return np.tile(row, (64, 1))


# Means over 64 prompts x runs: five standard errors of at most 1/2 each.


def test_sft_on_the_table_has_the_law_of_best_of_n(logits):
    m = 64 * OPTIONS.N * 4
    found = toys.learn("sft", logits, m, runs=4, seed=0)
    expected = 1 - 0.7**OPTIONS.N
    bound = 5 * 0.5 / math.sqrt(found.mass.size * 4)
    # A fit to the end by 300 steps of Adam: softmax tails of a few per cent.
    assert abs(found.mass.mean() - expected) < bound + 0.02
    assert (found.queries == m).all()
    assert (found.mass[0] != found.mass[1]).any()


def test_ada_sft_on_the_table_has_the_law_of_adaptive_draws(logits):
    m = round(64 * OPTIONS.mean_draws)
    found = toys.learn("ada-sft", logits, m, runs=4, seed=0)
    law = laws.adaptive(logits[:1], delta=OPTIONS.delta)
    expected, draws = law.on_mode[0], law.draws[0]
    bound = 5 * 0.5 / math.sqrt(found.mass.size)
    assert abs(found.mass.mean() - expected) < bound + 0.02
    assert found.queries.mean() / 64 == pytest.approx(draws, rel=0.1)


def test_regression_with_many_pairs_reaches_the_tilted_base(logits):
    found = toys.learn("rlhf", logits[:4], 4 * 2 * 400, runs=2, seed=0)
    with jax.enable_x64(True):
        base = jnp.exp(jnp.asarray(logits[:1]))
        aim = float(pi_star_beta(base, beta=OPTIONS.beta)[0, 0])
    np.testing.assert_allclose(found.mass, aim, atol=0.02)


@pytest.mark.parametrize("name", ["xpo", "rloo"])
def test_every_algorithm_moves_mass_to_the_mode(logits, name):
    m = 64 * 32
    found = toys.learn(name, logits, m, runs=2, seed=0)
    assert found.mass.mean() > 0.3
    np.testing.assert_allclose(found.queries, m)


def test_there_is_no_other_algorithm(logits):
    with pytest.raises(ValueError, match="dpo"):
        toys.learn("dpo", logits, 64, runs=1, seed=0)
