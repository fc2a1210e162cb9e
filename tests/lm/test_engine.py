"""The stream against the sampler's responses, one prompt at a time."""

import functools

import jax
import numpy as np
import pytest
from tiny_llama import CONFIG, END, PAD, PARAMS

from jsharp.lm import engine, sampler
from jsharp.lm.draw import Sampling
from jsharp.policy import Prompts, uniforms

HORIZON, N, WIDTH = 11, 5, 21
LAW = Sampling(temperature=0.9, top_k=6)
SIZES = dict(config=CONFIG, end=END, pad=PAD, sampling=LAW)
GRID = dict(SIZES, horizon=HORIZON, rows=2, columns=2)
RNG = np.random.default_rng(0)
# In two buckets; rows are refilled out of order where a short response ends a prompt.
TEXTS = [
    RNG.integers(CONFIG.vocab_size, size=size).tolist()
    for size in (21, 1, 7, 19, 2, 3, 16)
]


@pytest.fixture(scope="module")
def seed():
    return jax.random.key(7)


@pytest.fixture(scope="module")
def whole(seed):
    """All prompts at once, a slot for each response."""
    tokens = np.full((len(TEXTS), WIDTH), 7, np.int32)
    for row, text in zip(tokens, TEXTS, strict=True):
        row[: len(text)] = text
    prompts = Prompts(tokens, np.asarray([len(text) for text in TEXTS], np.int32))
    sample = jax.jit(functools.partial(sampler.rollout, **SIZES))
    return sample(uniforms(seed, len(TEXTS), N, HORIZON), PARAMS, prompts)


def check(found, whole, places=None):
    expected = list(range(len(found))) if places is None else places
    assert [one.place for one in found] == expected
    for one in found:
        np.testing.assert_array_equal(one.tokens, whole.tokens[one.place])
        np.testing.assert_array_equal(one.length, whole.length[one.place])
        for name in ("base_log_prob", "sampler_log_prob"):
            seen = getattr(whole, name)[one.place]
            np.testing.assert_allclose(getattr(one, name), seen, atol=2e-5)


def test_rows_refilled_give_each_prompt_its_own_responses(seed, whole):
    calls = []
    note = lambda finished, drawn: calls.append((finished, drawn))
    found = list(engine.generate(seed, PARAMS, TEXTS, N, **GRID, progress=note))
    check(found, whole)
    assert [one.prompt_length for one in found] == list(map(len, TEXTS))
    last = np.take_along_axis(whole.tokens, whole.length[..., None] - 1, axis=-1)
    ended = np.isin(last[..., 0], END)
    finish = [[mark == "stop" for mark in one.finish] for one in found]
    np.testing.assert_array_equal(finish, ended)
    assert 0 < ended.sum() < ended.size
    assert calls == sorted(calls) and calls[-1] == (len(TEXTS), whole.length.sum())


def test_a_part_gives_what_the_whole_gives_and_compiles_nothing(seed, whole):
    """Resumed at prompt 3; some, in another order; then all, to the last bit."""
    run = functools.partial(engine.generate, seed, PARAMS, n=N, **GRID)
    once = list(run(TEXTS))
    check(
        list(run(TEXTS[3:], places=range(3, len(TEXTS)))),
        whole,
        [*range(3, len(TEXTS))],
    )
    check(list(run([TEXTS[4], TEXTS[1]], places=[4, 1])), whole, [4, 1])
    with pytest.raises(ValueError, match=f"places: expected {len(TEXTS)}, got 1"):
        run(TEXTS, places=[4])
    compiled = []
    listen = lambda name, _, **kwargs: compiled.append(name)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        again = list(run(TEXTS))
        assert not [name for name in compiled if "backend_compile" in name]
        jax.jit(lambda x: x + len(compiled))(1.0)  # what a compilation looks like
        assert [name for name in compiled if "backend_compile" in name]
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    for one, other in zip(once, again, strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)


def test_a_reader_that_stops_early_has_the_first_prompts(seed, whole):
    stream = engine.generate(seed, PARAMS, TEXTS, N, **GRID)
    check([next(stream), next(stream)], whole)
    assert list(engine.generate(seed, PARAMS, [], N, **GRID)) == []


def test_prompts_are_read_in_batches_of_bounded_size():
    prompts = [[1] * size for size in (300, 20, 2000, 5000, 3)]
    free, waiting = [4, 5, 6, 7], [4, 3, 2, 1, 0]
    groups = list(engine._groups(free, waiting, prompts))
    assert groups == [{4: 0}, {5: 1}, {6: 2}, {7: 3}] and waiting == [4]
    groups = list(engine._groups([0, 1, 2], [2, 1, 0], [[1] * 1025] * 3))
    assert groups == [{0: 0, 1: 1}, {2: 2}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(prompts=[[1], []]), "prompt 1: expected at least one token, got none"),
        (dict(prompts=[[9]]), "prompt 0: expected ids of 0 to 8, got 9 to 9"),
        (dict(prompts=[[2, -1]]), "prompt 0: expected ids of 0 to 8, got -1 to 2"),
        (dict(n=0), "n: expected at least 1, got 0"),
        (dict(rows=0), "rows: expected at least 1, got 0"),
        (dict(horizon=0), "horizon: expected at least 1, got 0"),
        (dict(columns=6), "columns: expected at most n = 5, got 6"),
        (dict(end=(1, 9)), "end: expected ids of 0 to 8, got 9"),
        (dict(pad=-1), "pad: expected ids of 0 to 8, got -1"),
    ],
)
def test_bad_input_is_refused_before_any_work(seed, change, message):
    sizes = {"prompts": [[1]], "n": N, **GRID, **change}
    with pytest.raises(ValueError, match=message):
        engine.generate(seed, PARAMS, **sizes)
