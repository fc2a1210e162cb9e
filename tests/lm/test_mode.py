"""The mode against enumeration of every response, one whole sequence at a time."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from test_beam import bigrams
from tiny_llama import CONFIG, END, PAD, PARAMS, PROMPTS, logits, sequences

import jsharp.lm.frontier
from jsharp.lm import scorer, transformer
from jsharp.lm.attention import causal
from jsharp.lm.mode import maximisers, mode, sharpened_fraction
from jsharp.policy import Response

HORIZON = 4
SIZES = dict(config=CONFIG, horizon=HORIZON, end=END, pad=PAD)
# One beam is greedy decoding: the weakest start, which leaves the search most to do.
STRIDES = dict(width=1, batch=8, children=3)
PROMPT = sequences(PROMPTS)[1]
ALL = 1 + 7 + 49 + 343  # open prefixes: 7 of the 9 tokens do not end
WINDOWED = dataclasses.replace(CONFIG, windows=(2, 0))

solve = functools.partial(mode, **SIZES, **STRIDES)


@functools.cache
def model(seed, scale):
    """Random weights; the head's scale makes them flat or peaked."""
    params = transformer.init(jax.random.key(seed), CONFIG)
    return {**params, "head": params["head"] * scale}


@functools.partial(jax.jit, static_argnums=0)
def whole_sequences(config, params, rows):
    """log softmax after each position of many rows: no prefix and no pool."""
    module = transformer.merge(config, params)
    position = jnp.broadcast_to(jnp.arange(rows.shape[1])[None], rows.shape)
    hidden, _ = module(rows[None], position[None], causal())
    return module.logits(hidden[0])


def every_response(params, prompt, *, horizon=HORIZON, end=END, config=CONFIG):
    """log pi(y|x) of every response, float64."""
    going = [token for token in range(CONFIG.vocab_size) if token not in end]
    rows = list(itertools.product(going, repeat=horizon - 1))
    fed = np.zeros((512, 8), np.int32)
    fed[:, : len(prompt)] = prompt
    fed[: len(rows), len(prompt) : len(prompt) + horizon - 1] = rows
    scores = np.asarray(whole_sequences(config, params, fed), float)
    scores = scipy.special.log_softmax(scores[:, len(prompt) - 1 :], axis=-1)
    done = {}
    for row, after in zip(rows, scores, strict=False):
        total = 0.0
        for step in range(horizon):
            for token, score in enumerate(after[step]):
                if token in end or step + 1 == horizon:
                    done[*row[:step], token] = total + score
            total += after[step][row[step]] if step + 1 < horizon else 0.0
    total = scipy.special.logsumexp(list(done.values()))
    np.testing.assert_allclose(total, 0, atol=1e-9)
    return done


def cut(tokens, length):
    return tuple(int(token) for token in tokens[: int(length)])


def ties(found):
    return list(map(cut, found.ties.tokens[0], found.ties.length[0]))


def assert_is_the_mode(found, table, pad=PAD):
    best = max(table, key=table.__getitem__)
    assert found.exact and found.gap == 0.0
    assert cut(found.tokens, found.length) == best
    assert ties(found) == [best]
    np.testing.assert_allclose(found.log_prob, table[best], atol=1e-5)
    np.testing.assert_allclose(found.mass, np.exp(table[best]), rtol=1e-5)
    assert (found.tokens[found.length :] == pad).all()
    assert 1e-5 <= found.rounding < 5e-5


@pytest.mark.parametrize("prompt", sequences(PROMPTS))
@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("seed", [2, 7])
def test_equals_enumeration(seed, scale, prompt):
    params = model(seed, scale)
    found = solve(params, prompt, 10 * ALL)
    assert_is_the_mode(found, every_response(params, prompt))


@pytest.mark.parametrize(
    ("horizon", "end", "pad", "config"), [(1, (), 0, CONFIG), (4, (2,), 2, WINDOWED)]
)
def test_equals_enumeration_in_other_spaces(horizon, end, pad, config):
    """One token and none that ends; a pad that ends, after a layer of short window."""
    params, prompt = model(3, 2.0), sequences(PROMPTS)[2]
    space = dict(horizon=horizon, end=end, config=config)
    found = mode(params, prompt, 10 * ALL, pad=pad, **space, **STRIDES)
    assert_is_the_mode(found, every_response(params, prompt, **space), pad)


@pytest.fixture(scope="module")
def missed():
    """A model whose greedy response is not the mode, nor begins as it does."""
    params = model(2, 1.0)
    table = every_response(params, PROMPT)
    best = max(table, key=table.__getitem__)
    greedy = solve(params, PROMPT, 0)
    assert greedy.tokens[0] != best[0] and greedy.expansions == 0
    return params, table, best


def test_the_certificate_holds_at_every_budget(missed):
    params, table, best = missed
    full = solve(params, PROMPT, 10 * ALL)
    assert_is_the_mode(full, table)
    assert 10 < full.expansions < ALL
    before = solve(params, PROMPT, 0)
    assert before.upper == 0.0  # nothing was expanded
    for budget in range(1, full.expansions + 3):
        found = solve(params, PROMPT, budget)
        assert found.expansions == min(budget, full.expansions)
        assert found.exact == (budget >= full.expansions)
        slack = found.rounding
        assert found.log_prob - slack <= table[best] <= found.upper + slack
        low, high = found.mass
        assert low * (1 - slack) <= np.exp(table[best]) <= high * (1 + slack)
        assert found.log_prob >= before.log_prob and found.gap <= before.gap
        named = cut(found.tokens, found.length)
        np.testing.assert_allclose(found.log_prob, table[named], atol=1e-5)
        before = found


def test_a_tolerance_ends_the_search_early(missed):
    params, table, best = missed
    found = solve(params, PROMPT, 10 * ALL, tolerance=0.5)
    assert 0 < found.gap <= 0.5 and not found.exact
    assert found.expansions < solve(params, PROMPT, 10 * ALL).expansions
    assert table[best] <= found.upper + found.rounding


@pytest.mark.parametrize("children", [1, 2, 8, 30])
def test_children_that_were_not_returned_are_opened_in_their_turn(children):
    """The mode begins with the seventh token of the first step: (8, 1).

    After 3 come six tokens alike, then 8, then the two that end; after 8 an end is
    sure, after all others nothing is.
    """
    table = np.zeros((9, 9))
    table[3] = [0, -4, 0, 0, -4, 0, 0, 0, -0.5]
    table[8, 1] = 12.0
    params = bigrams(table)
    np.testing.assert_allclose(logits(params, [3, 8]), table[[3, 8]], atol=1e-4)
    found = solve(params, [3], 10 * ALL, children=children)
    assert cut(found.tokens, found.length) == (8, 1)
    assert_is_the_mode(found, every_response(params, [3]))


def test_the_pool_grows(missed, monkeypatch):
    params, table, _ = missed
    monkeypatch.setattr(jsharp.lm.frontier, "_SLOTS", 8)
    assert_is_the_mode(solve(params, PROMPT, 10 * ALL), table)


def test_a_known_response_starts_the_search(missed):
    """With the mode known, nothing expanded finds another, and fewer are expanded."""
    params, table, best = missed
    tokens = np.full((1, 2, HORIZON), PAD, np.int32)
    tokens[0, 1, : len(best)] = best
    tokens[0, 0, 0] = END[0]
    length = jnp.asarray([[1, len(best)]], jnp.int32)
    start = Response(jnp.asarray(tokens), length, jnp.zeros((1, 2)))
    found = solve(params, PROMPT, 0, start=start)
    assert cut(found.tokens, found.length) == best and not found.exact
    np.testing.assert_allclose(found.log_prob, table[best], atol=1e-5)
    found = solve(params, PROMPT, 10 * ALL, start=start)
    assert_is_the_mode(found, table)
    assert found.expansions < solve(params, PROMPT, 10 * ALL).expansions


def test_ties_are_all_found_and_the_least_is_named():
    """Equal rows of the head are equal probabilities, after every prefix."""
    params = model(22, 1.0)
    head = params["head"]
    twins = {**params, "head": head.at[8].set(head[3]).at[4].set(head[1])}
    table = every_response(twins, PROMPT)
    top = max(table.values())
    tied = sorted(row for row, value in table.items() if value > top - 1e-9)
    assert len(tied) > 1
    found = solve(twins, PROMPT, 10 * ALL)
    assert found.exact and ties(found) == tied
    assert cut(found.tokens, found.length) == tied[0]
    mass = np.exp(top)
    np.testing.assert_allclose(found.mass, [mass, len(tied) * mass], rtol=1e-5)


def test_a_flat_model_ties_its_end_tokens_however_few_children_return():
    flat = {**PARAMS, "head": jnp.zeros_like(PARAMS["head"])}
    found = solve(flat, PROMPT, 10 * ALL, children=1)
    assert found.exact and ties(found) == [(1,), (4,)]
    np.testing.assert_allclose(found.mass, [1 / 9, 2 / 9], rtol=1e-6)


def test_coverage_and_sharpening_of_a_set_of_prompts():
    """C_cov and Def 3.1 from the mode, against tables of every response."""
    base, sharper = model(2, 1.0), model(2, 4.0)
    prompts = sequences(PROMPTS)
    found = [solve(base, prompt, 10 * ALL) for prompt in prompts]
    tables = [every_response(base, prompt) for prompt in prompts]
    coverage = np.mean([np.exp(-max(table.values())) for table in tables])
    np.testing.assert_allclose(np.mean([1 / m.mass[0] for m in found]), coverage, 1e-5)
    response, member = maximisers(found)
    score = jax.jit(scorer.log_prob, static_argnames="config")
    log_prob = score(sharper, PROMPTS, response, config=CONFIG)
    mass = [
        np.exp(every_response(sharper, prompt)[max(table, key=table.__getitem__)])
        for prompt, table in zip(prompts, tables, strict=True)
    ]
    np.testing.assert_allclose(np.exp(log_prob)[:, 0], mass, rtol=1e-4)
    assert member.all()
    exact = [m.exact for m in found]
    for delta in (0.01, 1 - np.median(mass) + 1e-4, 0.999):
        sharp = np.mean([m >= 1 - delta for m in mass])
        bounds = sharpened_fraction(log_prob, member, exact, delta=float(delta))
        assert bounds == (sharp, sharp)


def test_several_maximisers_count_together_and_an_open_prompt_both_ways():
    """Rows: two tied with 0.4 + 0.3; one of 0.6 and a padding row; one not exact."""
    log_prob = np.log([[0.4, 0.3], [0.6, 1.0], [0.9, 1.0]])
    member = np.array([[True, True], [True, False], [True, False]])
    exact = [True, True, False]
    fraction = functools.partial(sharpened_fraction, log_prob, member, exact)
    assert fraction(delta=0.35) == (1 / 3, 2 / 3)
    assert fraction(delta=0.45) == (2 / 3, 1.0)
    assert fraction(delta=0.2) == (0.0, 1 / 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(prompt=[]), "prompt: expected at least one token, got none"),
        (dict(prompt=[9]), "token 9 is outside the vocabulary of 9"),
        (dict(end=(1, -1)), "token -1 is outside the vocabulary of 9"),
        (dict(batch=0), "batch: expected at least 1, got 0"),
        (dict(horizon=0), "horizon: expected at least 1, got 0"),
    ],
)
def test_bad_input_is_refused(change, message):
    call = dict(prompt=PROMPT, budget=1, **SIZES, **STRIDES)
    with pytest.raises(ValueError, match=message):
        mode(PARAMS, **{**call, **change})


@pytest.mark.parametrize("row", [(2, 2, 2), (1, 2, 2, 2)])
def test_a_start_that_is_no_response_is_refused(row):
    """One stops early, the other goes on after its end."""
    tokens = np.full((1, 1, HORIZON), PAD, np.int32)
    tokens[0, 0, : len(row)] = row
    length = jnp.asarray([[len(row)]], jnp.int32)
    start = Response(jnp.asarray(tokens), length, jnp.zeros((1, 1)))
    with pytest.raises(ValueError, match="start: expected responses of at most 4"):
        solve(PARAMS, PROMPT, 1, start=start)
