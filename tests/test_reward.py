"""Self-rewards by hand."""

import jax.numpy as jnp
import numpy as np

from jsharp.policy import Response
from jsharp.reward import length_normalised, log_probability, majority, same_response

RESPONSE = Response(
    # Candidates 0 and 2 differ only behind their end; 3 has the same tokens, longer.
    tokens=jnp.asarray([[[4, 1, 0], [4, 4, 1], [4, 1, 7], [4, 1, 0]]]),
    length=jnp.asarray([[2, 3, 2, 3]]),
    sampler_log_prob=jnp.zeros((1, 4)),
)
LOG_PROB = jnp.asarray([[-1.0, -6.0, -1.0, -3.0]])


def test_log_probability_is_the_sum_itself():
    np.testing.assert_array_equal(log_probability(LOG_PROB, RESPONSE), LOG_PROB)


def test_length_normalised_divides_by_the_tokens_that_count():
    np.testing.assert_allclose(
        length_normalised(LOG_PROB, RESPONSE), [[-0.5, -2.0, -0.5, -1.0]]
    )


def test_same_response_ignores_padding_but_not_length():
    expected = [[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(same_response(RESPONSE)[0], expected)


def test_majority_of_whole_responses():
    np.testing.assert_allclose(majority()(LOG_PROB, RESPONSE), [[0.5, 0.25, 0.5, 0.25]])


def test_majority_of_answers_gives_no_vote_to_no_answer():
    labels = jnp.asarray([[3, -1, 3, -1]])
    reward = majority(lambda response: labels)
    np.testing.assert_allclose(reward(LOG_PROB, RESPONSE), [[0.5, 0.0, 0.5, 0.0]])
