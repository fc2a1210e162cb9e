"""Prop 3.1 against greedy decoding in plain Python, over every small table."""

import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theory.claim import QUICK, compiled
from theory.families import compositions
from theory.s3_limits import CLAIMS, greedy_lead, prop_31, prop_31_tight


def prefix_mass(weights, prefix):
    return sum(w for y, w in weights.items() if y[: len(prefix)] == prefix)


def greedy_can_miss(weights, mode, *, tokens, tie_counts):
    """Follow y*; at each step ask whether another token is (at least) as likely."""
    for h in range(len(mode)):
        step = {v: prefix_mass(weights, (*mode[:h], v)) for v in range(tokens)}
        rival = max(mass for v, mass in step.items() if v != mode[h])
        if rival > step[mode[h]] or (tie_counts and rival == step[mode[h]]):
            return True
    return False


def tables(tokens, horizon, total):
    keys = list(itertools.product(range(tokens), repeat=horizon))
    for row in compositions(total, len(keys)).tolist():
        yield dict(zip(keys, row, strict=True)), np.reshape(row, (tokens,) * horizon)


@pytest.mark.parametrize(
    ("tokens", "horizon", "total"), [(2, 2, 9), (2, 3, 4), (3, 2, 5)]
)
def test_both_sides_are_those_of_plain_greedy_decoding(tokens, horizon, total):
    pair, tight = (compiled(jax.vmap(f)) for f in (prop_31, prop_31_tight))
    plain, arrays = zip(*tables(tokens, horizon, total), strict=True)
    stacked = jnp.asarray(np.stack(arrays), float)
    left, right = pair({"weights": stacked})
    _, mass = tight({"weights": stacked, "eta": jnp.zeros(len(plain))})
    for k, weights in enumerate(plain):
        top = max(weights.values())
        modes = [y for y, w in weights.items() if w == top]
        share = Fraction(top, total) if len(modes) == 1 else Fraction(0)
        may, must = (
            greedy_can_miss(weights, modes[0], tokens=tokens, tie_counts=ties)
            for ties in (True, False)
        )
        assert float(left[k]) == (float(share) if may else 0.0)
        assert float(mass[k]) == (float(share) if must else 0.0)
        assert not (may and share > Fraction(1, 2))  # Prop 3.1 itself
    assert set(np.asarray(right).tolist()) == {0.5}


def test_the_attack_has_tables_of_three_tokens(key):
    """binom(12, 8) = 495 laws on [3 3], the total of each 4."""
    shapes = {
        batch["weights"].shape[1:]: batch for batch in CLAIMS[0].attack(key, QUICK)
    }
    tables = shapes[3, 3]["weights"]
    assert len(tables) == 495 and set(tables.sum((1, 2))) == {4.0}


def test_the_lead_is_the_smallest_over_the_steps():
    weights = jnp.array([[5.0, 1.0], [4.0, 0.0]])  # y* = (0,0): leads 6-4 and 5-1
    assert float(greedy_lead(weights)) == 2.0
    late = jnp.array([[[5.0, 0.0], [4.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])
    assert float(greedy_lead(late)) == 1.0


def test_the_search_alone_climbs_close_to_one_half(key):
    """Without the enumerated tables: greedy misses y* of mass above 0.49."""
    found = CLAIMS[0].attack(key, QUICK)[0]
    sides = CLAIMS[0].sides(found)
    assert 0.49 < sides.left.max() <= 0.5


def test_almost_half_defeats_greedy_whatever_its_tie_rule():
    weights = jnp.array([[0.5 - 1e-9, 0.0], [0.25 + 0.5e-9, 0.25 + 0.5e-9]])
    left, right = prop_31_tight({"weights": weights, "eta": jnp.asarray(1e-9)})
    assert float(right) == pytest.approx(0.5 - 1e-9, abs=1e-15) and left == right
