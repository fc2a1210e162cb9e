"""Which examples make a batch, which prompts a round; examples as arrays."""

import numpy as np
import pytest

from jsharp.reward import length_normalised
from jsharp.train.command import parse
from jsharp.train.examples import batch, examples, order, score
from jsharp.train.plan import deal, steps
from jsharp.train.recipes import recipe


def test_an_epoch_has_every_example_once_in_its_own_order():
    epochs = [
        [order(3, r, step, 7, 3).tolist() for step in range(e * 3, e * 3 + 3)]
        for r, e in ((0, 0), (0, 1), (1, 0))
    ]
    for batches in epochs:
        assert [len(each) for each in batches] == [3, 3, 1]
        assert sorted(sum(batches, [])) == [*range(7)]
    assert len({str(batches) for batches in epochs}) == 3
    assert order(4, 0, 0, 7, 3).tolist() != epochs[0][0]


@pytest.mark.parametrize(
    ("words", "sizes", "starts"),
    [
        ("sft --rounds 2", [7, 7], [0, 6, 12]),  # 2 epochs of 3 batches
        ("rlhf -n 4", [7], [0, 10]),  # 14 pairs, 5 batches
        ("xpo --rounds 3", [3, 2, 2], [0, 2, 6, 12]),  # 3, then 5, then 7 pairs
        ("rloo", [3, 3, 1] * 2, [*range(7)]),
    ],
)
def test_rounds_of_seven_prompts(words, sizes, starts):
    more = "--output-dir x --batch-size 3 --num-train-epochs 2"
    config = parse([*words.split(), *more.split()])[1]
    made = recipe(config)
    places = deal(config, made, 7)
    assert [len(some) for some in places] == sizes
    assert list(steps(config, made, places)) == starts
    seen = sorted(int(place) for some in places for place in some)
    assert seen == sorted([*range(7)] * (sum(sizes) // 7))


def test_more_rounds_than_prompts():
    config = parse(["xpo", "--output-dir", "x", "--rounds", "3"])[1]
    with pytest.raises(ValueError, match="--rounds must be at most the 2 prompts"):
        deal(config, recipe(config), 2)


def record(i: int, size: int) -> dict:
    ids = [1 + (i + h) % 5 for h in range(size)]
    told = {"entropy": 0.1, "certainty": 0.2, "answer": None, "correct": i % 2 == 0}
    scores = {"logprob_base": -float(i) - 1, "logprob_sampler": -float(i) - 1.5}
    prompt = {"id": f"p{i // 3}", "prompt_ids": [2] * (1 + i // 3)}
    return {**prompt, "sample_id": i % 3, "completion_ids": ids, "num_tokens": size} | (
        scores | told
    )


def test_examples_and_their_batch():
    sizes = (2, 3, 9, 1, 4, 5)
    records = [record(i, size) for i, size in enumerate(sizes)]
    groups = [records[:3], records[3:]]
    rewards = score(groups, length_normalised)
    by_hand = -(np.arange(6) + 1) / np.array(sizes)
    np.testing.assert_allclose(rewards.ravel(), by_hand, rtol=1e-6)
    index = np.array([[[0, 2]], [[1, 0]]])
    first, second = examples(groups, rewards, index)
    assert first["sample_ids"] == [0, 2] and second["sample_ids"] == [1, 0]
    assert second["reward"] == pytest.approx(by_hand[[4, 3]].tolist())
    assert second["logprob_sampler"] == [-5.5, -4.5] and second["id"] == "p1"
    assert first["correct"] == [True, True]
    found = batch([first, second], size=4, parts=2, width=2, pad=6)
    assert found.response.tokens.shape == (2, 2, 2, 12)  # 9 tokens
    assert found.prompts.tokens.shape == (2, 2, 8)
    assert found.response.length.tolist() == [[[2, 9], [4, 1]], [[0, 0], [0, 0]]]
    assert found.real.tolist() == [[True, True], [False, False]]
    assert found.response.tokens[0, 1, 0].tolist() == [5, 1, 2, 3] + [6] * 8
    assert found.prompts.length.tolist() == [[1, 2], [1, 1]]
    assert found.base_log_prob[0].tolist() == [[-1, -3], [-5, -4]]
    assert found.response.sampler_log_prob[0, 0].tolist() == [-1.5, -3.5]
