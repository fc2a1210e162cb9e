"""Self-rewards by hand, by brute force in Python, and the contract of the table."""

import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jsharp.policy import Response
from jsharp.reward import (
    REWARDS,
    Candidates,
    length_normalised,
    log_probability,
    majority,
    negative_entropy,
    probability,
    same_response,
    self_certainty,
)
from jsharp.selection import best_of_n

RESPONSE = Response(
    # Candidates 0 and 2 differ only behind their end; 3 has the same tokens, longer.
    tokens=jnp.asarray([[[4, 1, 0], [4, 4, 1], [4, 1, 7], [4, 1, 0]]]),
    length=jnp.asarray([[2, 3, 2, 3]]),
    sampler_log_prob=jnp.zeros((1, 4)),
)
LOG_PROB = jnp.asarray([[-1.0, -6.0, -1.0, -3.0]])
PLAIN = Candidates(RESPONSE, LOG_PROB)
JITTED = {name: jax.jit(reward) for name, reward in REWARDS.items()}


def test_log_probability_is_the_sum_itself():
    np.testing.assert_array_equal(log_probability(PLAIN), LOG_PROB)


def test_length_normalised_divides_by_the_tokens_that_count():
    np.testing.assert_allclose(length_normalised(PLAIN), [[-0.5, -2.0, -0.5, -1.0]])
    given = drawn()  # with responses of one token
    total = np.asarray(length_normalised(given)) * np.asarray(given.response.length)
    np.testing.assert_allclose(total, given.log_prob, rtol=1e-6)


def test_probability_is_its_exponential():
    np.testing.assert_allclose(
        probability(PLAIN), [[math.exp(v) for v in (-1, -6, -1, -3)]], rtol=1e-6
    )


def test_same_response_ignores_padding_but_not_length():
    expected = [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(same_response(RESPONSE)[0], expected)


def test_majority_of_whole_responses():
    np.testing.assert_allclose(majority(PLAIN), [[0.5, 0.25, 0.5, 0.25]])


def test_majority_of_answers_gives_no_vote_to_no_answer():
    voted = PLAIN._replace(answer=jnp.asarray([[3, -1, 3, -1]]))
    np.testing.assert_allclose(majority(voted), [[0.5, 0.0, 0.5, 0.0]])


def test_the_statistics_are_taken_as_they_are_given():
    given = PLAIN._replace(entropy=LOG_PROB + 9, certainty=LOG_PROB + 7)
    np.testing.assert_array_equal(negative_entropy(given), -(LOG_PROB + 9))
    np.testing.assert_array_equal(self_certainty(given), LOG_PROB + 7)


def test_perplexity_consistency_counts_a_response_once():
    """Candidates 0 and 2 are one response: answer 3 has the mass e^-1 + e^-3."""
    given = PLAIN._replace(answer=jnp.asarray([[3, -1, 3, 3]]))
    mass = math.log(math.exp(-1) + math.exp(-3))
    np.testing.assert_allclose(
        JITTED["perplexity-consistency"](given), [[mass, -7.0, mass, mass]], rtol=1e-6
    )


def drawn(seed: int = 0) -> Candidates:
    """12 candidates for each of 5 prompts, duplicates and missing answers among them.

    Equal responses have equal log-probabilities and statistics, as under one policy.
    """
    rng = np.random.default_rng(seed)
    # Which of 7 responses each candidate is: every one comes, some of them again.
    kinds = np.concatenate(
        [np.tile(np.arange(7), (5, 1)), rng.integers(0, 7, (5, 5))], 1
    )
    kinds = rng.permuted(kinds, axis=1)
    per_kind = lambda low, high: np.take_along_axis(
        rng.uniform(low, high, (5, 7)), kinds, 1
    ).astype(np.float32)
    length = 1 + kinds % 3
    tokens = np.stack([kinds, kinds % 2, 6 - kinds, kinds * 0], -1)
    answer = np.where(kinds == 6, -1, kinds // 2)
    response = Response(jnp.asarray(tokens), jnp.asarray(length), jnp.zeros((5, 12)))
    return Candidates(
        response,
        jnp.asarray(per_kind(-9, -1)),
        jnp.asarray(answer),
        jnp.asarray(per_kind(0, 3)),
        jnp.asarray(per_kind(0, 3)),
    )


def test_consistency_is_what_a_dict_counts():
    given = drawn()
    names = "majority", "perplexity-consistency"
    shares, masses = (np.asarray(JITTED[name](given)) for name in names)
    texts = [
        [tuple(t[:n]) for t, n in zip(*row, strict=True)]
        for row in zip(
            np.asarray(given.response.tokens).tolist(),
            np.asarray(given.response.length).tolist(),
            strict=True,
        )
    ]
    log_prob = np.asarray(given.log_prob, float)
    for b, labels in enumerate(np.asarray(given.answer).tolist()):
        votes = Counter(labels)
        mass: dict[int, dict] = {}
        for text, label, value in zip(texts[b], labels, log_prob[b], strict=True):
            mass.setdefault(label, {})[text] = math.exp(value)
        answered = np.asarray(labels) >= 0
        assert masses[b][~answered].max() < masses[b][answered].min()
        for i, label in enumerate(labels):
            found = float(shares[b, i]), float(masses[b, i])
            wanted = votes[label] / 12, math.log(sum(mass[label].values()))
            if label < 0:
                wanted = 0.0, log_prob[b].min() - 1
            assert found == pytest.approx(wanted, rel=1e-5)


def test_probability_and_its_logarithm_choose_alike():
    given = drawn(1)
    names = "log-probability", "probability"
    one, other = (best_of_n(JITTED[name](given)) for name in names)
    np.testing.assert_array_equal(one, other)


# The contract, over the whole table.


@pytest.fixture(params=REWARDS)
def reward(request):
    return JITTED[request.param]


def test_one_finite_score_a_candidate(reward):
    given = drawn(2)
    score = reward(given)
    assert score.shape == given.log_prob.shape and score.dtype == given.log_prob.dtype
    assert np.isfinite(score).all() and len(np.unique(score)) > 1


def test_order_does_not_matter(reward):
    given = drawn(3)
    order = np.stack([np.random.default_rng(b).permutation(12) for b in range(5)])
    move = lambda leaf: np.take_along_axis(
        np.asarray(leaf), order.reshape(5, 12, *[1] * (leaf.ndim - 2)), 1
    )
    moved = jax.tree.map(lambda leaf: jnp.asarray(move(leaf)), given)
    np.testing.assert_allclose(reward(moved), move(reward(given)), rtol=1e-5)


def test_prompts_do_not_see_each_other(reward):
    given, other = drawn(4), drawn(7)
    mixed = jax.tree.map(
        lambda a, b: jnp.asarray(np.concatenate([a[:2], b[2:]])), given, other
    )
    score = np.asarray(reward(mixed))
    np.testing.assert_array_equal(score[:2], np.asarray(reward(given))[:2])
    np.testing.assert_array_equal(score[2:], np.asarray(reward(other))[2:])


@pytest.mark.parametrize("size", [1e-30, 5e3, 1e30])
def test_extreme_log_probabilities_stay_finite(reward, size):
    given = drawn(5)
    assert np.isfinite(reward(given._replace(log_prob=given.log_prob * size))).all()


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("self-certainty", "certainty"),
        ("negative-entropy", "entropy"),
        ("perplexity-consistency", "answer"),
    ],
)
def test_missing_evidence_is_refused_by_its_name(name, field):
    rest = {"answer": 0, "entropy": 0, "certainty": 0} | {field: None}
    given = drawn()._replace(**{k: None for k, v in rest.items() if v is None})
    with pytest.raises(ValueError, match=f"{field}: this self-reward needs it"):
        JITTED[name](given)


@pytest.mark.parametrize(
    "name", ["log-probability", "length-normalised", "probability", "majority"]
)
def test_the_rest_need_the_responses_and_their_log_probabilities_alone(name):
    assert np.isfinite(JITTED[name](PLAIN)).all()


def test_perplexity_consistency_does_not_underflow():
    """At e^-5000 the gaps are those at e^-5."""
    given = drawn(6)
    far = given._replace(log_prob=given.log_prob - 5000)
    near, below = (
        np.asarray(JITTED["perplexity-consistency"](c)) for c in (given, far)
    )
    np.testing.assert_allclose(below + 5000, near, atol=2e-3)
    assert not JITTED["probability"](far).any()
