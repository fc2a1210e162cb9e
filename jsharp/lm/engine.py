"""Stream the responses to any number of prompts through a fixed grid of slots.

The grid has a row per prompt being decoded. The device decodes until a row is free; the
host hands its responses out, in the prompts' order, and puts the next prompt there. All
shapes come from a few buckets: nothing is compiled after the first of each, and the
grid is donated from call to call, so it exists once.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from jsharp.lm import cache, sampler, transformer
from jsharp.lm.config import TransformerConfig
from jsharp.lm.draw import BASE, Sampling
from jsharp.lm.shapes import bucket
from jsharp.policy import Params, uniforms

_SHORTEST = 16  # tokens of the smallest bucket of prompts
_PREFILL = 4096  # tokens of prompts read at a time
_STEPS = 256  # at most, between two reports of progress


class Generated(NamedTuple):
    """The n responses to one prompt, on the host."""

    place: int  # of the prompt
    tokens: np.ndarray  # [n H], padded on the right
    length: np.ndarray  # [n], end token included
    finish: tuple[str, ...]  # n times "stop" or "length"
    base_log_prob: np.ndarray  # [n], at temperature 1
    sampler_log_prob: np.ndarray  # [n], in the law that was drawn from
    prompt_length: int


Progress = Callable[[int, int], None]  # (prompts finished, tokens drawn so far)


def generate(
    key: Key[Array, ""],
    params: Params,
    prompts: Sequence[Sequence[int]],
    n: int,
    *,
    config: TransformerConfig,
    horizon: int,
    end: tuple[int, ...],
    pad: int,
    sampling: Sampling = BASE,
    rows: int = 16,
    columns: int | None = None,
    stages: int | None = None,
    places: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Iterator[Generated]:
    """n responses to each prompt, yielded in the prompts' order as they are finished.

    Prompt p's key is fold_in(key, places[p]), by default fold_in(key, p): a part of the
    prompts, with their `places` in the whole, gives what the whole gives, up to float
    rounding in which other rows of the grid have no part. Raises ValueError, naming the
    prompt, where one is empty or holds an id outside the vocabulary, and unless there
    is one place for each.
    """
    columns = n if columns is None else columns
    _check_sizes(config, end, pad, n=n, horizon=horizon, rows=rows, columns=columns)
    _check_prompts(prompts, config)
    places = range(len(prompts)) if places is None else places
    if len(places) != len(prompts):
        raise ValueError(f"places: expected {len(prompts)}, got {len(places)}")
    rows = min(rows, bucket(len(prompts), 1))
    width = bucket(max(map(len, prompts), default=1), _SHORTEST)
    sizes = sampler.ring_sizes(horizon, stages)
    grid = _empty(config, rows, columns, n, horizon, width, sizes[0], pad)
    load = functools.partial(_load, key, params, config=config, pad=pad)
    advance = functools.partial(
        _advance, params, config=config, end=end, sampling=sampling
    )
    report = progress or (lambda finished, drawn: None)
    return _stream(grid, prompts, places, sizes, load, advance, end, report)


class _Grid(NamedTuple):
    task: sampler.Task
    state: sampler.State


def _stream(
    grid: _Grid,
    prompts: Sequence[Sequence[int]],
    places: Sequence[int],
    sizes: tuple[int, ...],
    load: Callable[..., _Grid],
    advance: Callable[..., tuple[_Grid, Array]],
    end: tuple[int, ...],
    report: Progress,
) -> Iterator[Generated]:
    rows = grid.task.opening.shape[0]
    waiting = list(range(len(prompts)))[::-1]  # the next one last
    inside: dict[int, int] = {}  # row: the prompt in it
    held: dict[int, Generated] = {}  # finished before their turn
    due = finished = drawn = 0
    while due < len(prompts):
        free = [row for row in range(rows) if row not in inside]
        for fresh in _groups(free, waiting, prompts):
            grid = load(grid, *_padded(fresh, prompts, places, rows))
            inside |= fresh
        clock, size = int(grid.state.clock), grid.state.rings[0].key.shape[-1]
        if clock == size < sizes[-1]:
            size = next(s for s in sizes if s > size)
            old, rings = list(grid.state.rings), ()
            grid = grid._replace(state=grid.state._replace(rings=()))
            while old:  # layer by layer, so that two whole sets never exist
                rings += cache.grow((old.pop(0),), size)
            grid = grid._replace(state=grid.state._replace(rings=rings))
        limit = clock + _STEPS if size == sizes[-1] else size
        taken = np.isin(np.arange(rows), list(inside))
        grid, busy = advance(grid.task, grid.state, limit, taken, bool(waiting))
        for row in [row for row in inside if not busy[row]]:
            index = inside.pop(row)
            size = len(prompts[index])
            held[index] = _collect(grid.state.rollout, row, places[index], size, end)
            finished, drawn = finished + 1, drawn + int(held[index].length.sum())
        begun = np.asarray(grid.state.rollout.length)[list(inside)].sum()
        report(finished, drawn + int(begun))
        while due in held:
            yield held.pop(due)
            due += 1


def _groups(
    free: list[int], waiting: list[int], prompts: Sequence[Sequence[int]]
) -> Iterator[dict[int, int]]:
    """Rows and the prompts to put there, few enough at a time to be read at once."""
    while free and waiting:
        longest = bucket(max(len(prompts[p]) for p in waiting[-len(free) :]), _SHORTEST)
        count = min(len(free), len(waiting), max(1, _PREFILL // longest))
        yield {free.pop(0): waiting.pop() for _ in range(count)}


def _padded(
    fresh: dict[int, int],
    prompts: Sequence[Sequence[int]],
    places: Sequence[int],
    rows: int,
) -> tuple[np.ndarray, ...]:
    """Tokens, lengths, rows and places of some prompts; fillers have no row."""
    count = bucket(len(fresh), 1)
    width = bucket(max(len(prompts[p]) for p in fresh.values()), _SHORTEST)
    tokens, length = np.zeros((count, width), np.int32), np.ones(count, np.int32)
    row, place = np.full(count, rows, np.int32), np.zeros(count, np.int32)
    for i, (r, p) in enumerate(fresh.items()):
        tokens[i, : len(prompts[p])] = prompts[p]
        length[i], row[i], place[i] = len(prompts[p]), r, places[p]
    return tokens, length, row, place


@functools.partial(jax.jit, static_argnums=range(8))
def _empty(config, rows, columns, n, horizon, width, size, pad) -> _Grid:
    heads, head = config.num_key_value_heads, config.head_dim
    zeros = lambda *s: jnp.zeros((rows, heads, *s), jnp.dtype(config.dtype))
    layers = tuple(
        (zeros(head, width), zeros(width, head))
        for _ in range(config.num_hidden_layers)
    )
    prefix = cache.Shared(layers, jnp.zeros((rows, width), bool))
    u = jnp.zeros((rows, n, horizon), jnp.float32)
    task = sampler.Task(prefix, jnp.zeros(rows, jnp.int32), u)
    state = sampler.idle(config, rows, columns, n, horizon, size=size, pad=pad)
    return _Grid(task, state)


@functools.partial(jax.jit, static_argnames=("config", "pad"), donate_argnames="grid")
def _load(
    key: Key[Array, ""],
    params: Params,
    grid: _Grid,
    tokens: Int[Array, "b P"],
    length: Int[Array, " b"],
    row: Int[Array, " b"],
    place: Int[Array, " b"],
    *,
    config: TransformerConfig,
    pad: int,
) -> _Grid:
    """Read some prompts and begin their responses in their rows."""
    model = transformer.merge(config, params)
    prefix = cache.share(transformer.prefill(model, tokens, length))
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, place)
    task, state = grid
    _, n, horizon = task.u.shape
    new = sampler.Task(
        prefix,
        transformer.opening(tokens, length)[:, 0],
        uniforms(keys, len(row), n, horizon),
    )
    put = lambda old, x: old.at[row].set(_fit(x, old.shape[1:]), mode="drop")
    task = jax.tree.map(put, task, new)
    fresh = jnp.zeros(len(task.opening), bool).at[row].set(True, mode="drop")
    return _Grid(task, sampler.begin(state, task, fresh, pad=pad))


def _fit(x: Array, shape: tuple[int, ...]) -> Array:
    """Padded with zeros to `shape` behind the first axis."""
    return jnp.pad(
        x, [(0, 0), *((0, b - a) for a, b in zip(x.shape[1:], shape, strict=True))]
    )


@functools.partial(
    jax.jit,
    static_argnames=("config", "end", "sampling"),
    donate_argnames=("task", "state"),
)
def _advance(
    params: Params,
    task: sampler.Task,
    state: sampler.State,
    limit: Int[Array, ""],
    taken: Bool[Array, " R"],
    waiting: Bool[Array, ""],
    *,
    config: TransformerConfig,
    end: tuple[int, ...],
    sampling: Sampling,
) -> tuple[_Grid, Bool[Array, " R"]]:
    """Decode to the clock's limit, or until a row is free for a waiting prompt."""
    model = transformer.merge(config, params)

    def unfinished(state: sampler.State) -> Array:
        busy = sampler.busy(state)
        useful = jnp.where(waiting, (busy | ~taken).all(), True)
        return (state.clock < limit) & busy.any() & useful

    step = lambda s: sampler.step(model, task, s, end=end, sampling=sampling)
    state = jax.lax.while_loop(unfinished, step, state)
    return _Grid(task, state), sampler.busy(state)


@jax.jit
def _row(rollout: sampler.Rollout, row: Int[Array, ""]) -> sampler.Rollout:
    return jax.tree.map(lambda x: x[row], rollout)


def _collect(
    rollout: sampler.Rollout, row: int, index: int, size: int, end: tuple[int, ...]
) -> Generated:
    tokens, length, base, own = map(np.array, _row(rollout, row))
    last = np.take_along_axis(tokens, length[:, None] - 1, axis=1)[:, 0]
    finish = tuple("stop" if token in end else "length" for token in last)
    return Generated(index, tokens, length, finish, base, own, size)


def _check_sizes(
    config: TransformerConfig, end: tuple[int, ...], pad: int, **sizes: int
) -> None:
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")
    n, columns = sizes["n"], sizes["columns"]
    if columns > n:
        raise ValueError(f"columns: expected at most n = {n}, got {columns}")
    for name, token in (("pad", pad), *(("end", token) for token in end)):
        if not 0 <= token < config.vocab_size:
            raise ValueError(
                f"{name}: expected ids of 0 to {config.vocab_size - 1}, got {token}"
            )


def _check_prompts(prompts: Sequence[Sequence[int]], config: TransformerConfig) -> None:
    for i, prompt in enumerate(prompts):
        if not len(prompt):
            raise ValueError(f"prompt {i}: expected at least one token, got none")
        if not 0 <= min(prompt) <= max(prompt) < config.vocab_size:
            raise ValueError(
                f"prompt {i}: expected ids of 0 to {config.vocab_size - 1}, "
                f"got {min(prompt)} to {max(prompt)}"
            )
