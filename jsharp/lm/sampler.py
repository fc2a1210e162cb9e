"""Decode n responses to each prompt: prefill once, then token by token to the end.

Each prompt has a row of C slots. A slot whose response ends begins the row's next one
at once, so n responses pass through C <= n slots, all in one jitted loop. Response i of
a prompt is a function of its own uniforms (of the prompt's key and i), whatever the
batch, the order, the slot it passes through or the step at which it begins.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jsharp.lm import cache, transformer
from jsharp.lm.config import TransformerConfig
from jsharp.lm.draw import BASE, Sampling, draw
from jsharp.policy import Params, Prompts, Response, uniforms

# The ring grows to the horizon in stages, for each of which a loop is compiled: so many
# at most by default, and none shorter than this many steps, which would not repay it.
_STAGES, _SHORTEST = 4, 32
_UNIT = 8  # the ring's sizes are multiples of it


class Rollout(NamedTuple):
    """n responses to each prompt, padded on the right, with both log-probabilities.

    base_log_prob is of temperature 1, sampler_log_prob of the law that was drawn from;
    both are sums over the response's tokens, end token included.
    """

    tokens: Int[Array, "R n H"]
    length: Int[Array, "R n"]
    base_log_prob: Float[Array, "R n"]
    sampler_log_prob: Float[Array, "R n"]


class Task(NamedTuple):
    """What the rows decode: their prompts and the randomness of their responses."""

    prefix: cache.Shared
    opening: Int[Array, " R"]  # the prompt's last token
    u: Float[Array, "R n H"]


class State(NamedTuple):
    """The slots between two steps; `index` is the response in the slot, n for none."""

    rings: tuple[cache.Ring, ...]
    clock: Int[Array, ""]
    fed: Int[Array, "R C"]
    age: Int[Array, "R C"]
    index: Int[Array, "R C"]
    issued: Int[Array, " R"]  # responses begun
    rollout: Rollout


def sample(
    key: Key[Array, "*b"],
    params: Params,
    prompts: Prompts,
    n: int,
    *,
    config: TransformerConfig,
    horizon: int,
    end: tuple[int, ...],
    pad: int,
    sampling: Sampling = BASE,
    columns: int | None = None,
    stages: int | None = None,
) -> Response:
    """`rollout` as a Response; its sampler_log_prob is the one at temperature 1.

    So its distance from `Policy.log_prob` is the sampler's drift, whatever `sampling`.
    """
    found = rollout(
        uniforms(key, prompts.tokens.shape[0], n, horizon),
        params,
        prompts,
        config=config,
        end=end,
        pad=pad,
        sampling=sampling,
        columns=columns,
        stages=stages,
    )
    return Response(found.tokens, found.length, found.base_log_prob)


def greedy(
    params: Params,
    prompts: Prompts,
    *,
    config: TransformerConfig,
    horizon: int,
    end: tuple[int, ...],
    pad: int,
    stages: int | None = None,
) -> Response:
    """The likeliest token at each step, ties to the lowest id; n = 1."""
    found = rollout(
        jnp.zeros((prompts.tokens.shape[0], 1, horizon)),
        params,
        prompts,
        config=config,
        end=end,
        pad=pad,
        stages=stages,
        sampling=Sampling(temperature=0.0),
    )
    return Response(found.tokens, found.length, found.base_log_prob)


def rollout(
    u: Float[Array, "R n H"],
    params: Params,
    prompts: Prompts,
    *,
    config: TransformerConfig,
    end: tuple[int, ...],
    pad: int,
    sampling: Sampling = BASE,
    columns: int | None = None,
    stages: int | None = None,
) -> Rollout:
    """n responses of at most H tokens to each prompt, token h of response i at u[i, h].

    `columns` slots a prompt (n where None): fewer need less memory, and waste less
    where lengths differ. Raises ValueError unless 1 <= columns <= n and stages >= 1.
    """
    rows, n, horizon = u.shape
    columns = n if columns is None else columns
    if not 1 <= columns <= n:
        raise ValueError(f"columns: expected 1 to n = {n}, got {columns}")
    sizes = ring_sizes(horizon, stages)
    model = transformer.merge(config, params)
    prefix = cache.share(transformer.prefill(model, *prompts))
    task = Task(prefix, transformer.opening(*prompts)[:, 0].astype(jnp.int32), u)
    state = idle(config, rows, columns, n, horizon, size=sizes[0], pad=pad)
    state = begin(state, task, jnp.ones(rows, bool), pad=pad)
    for size in sizes:
        state = state._replace(rings=cache.grow(state.rings, size))
        last = size == sizes[-1] and columns < n  # only then does the ring wrap around
        unfinished = lambda s, size=size, last=last: (
            busy(s).any() & (last | (s.clock < size))
        )
        advance = lambda s: step(model, task, s, end=end, sampling=sampling)
        state = jax.lax.while_loop(unfinished, advance, state)
    return state.rollout


def ring_sizes(horizon: int, stages: int | None = None) -> tuple[int, ...]:
    """The sizes a ring passes through, so that early steps see no empty rest."""
    if stages is None:
        stages = max(1, min(_STAGES, horizon // _SHORTEST))
    if stages < 1:
        raise ValueError(f"stages: expected at least 1, got {stages}")
    unit = -(-horizon // (stages * _UNIT)) * _UNIT
    return tuple(range(unit, horizon + unit, unit))


def idle(
    config: TransformerConfig,
    rows: int,
    columns: int,
    n: int,
    horizon: int,
    *,
    size: int,
    pad: int,
) -> State:
    """No row has a prompt."""
    zeros = lambda: jnp.zeros((rows, columns), jnp.int32)
    sums = lambda: jnp.zeros((rows, n), jnp.float32)
    tokens = jnp.full((rows, n, horizon), pad, jnp.int32)
    return State(
        rings=cache.empty(config, rows, columns, size),
        clock=jnp.zeros((), jnp.int32),
        fed=zeros(),
        age=zeros(),
        index=zeros() + n,
        issued=jnp.full((rows,), n, jnp.int32),
        rollout=Rollout(tokens, jnp.zeros((rows, n), jnp.int32), sums(), sums()),
    )


def begin(state: State, task: Task, fresh: Array, *, pad: int) -> State:
    """Begin the task's responses in the rows that are `fresh` [R]."""
    columns = state.fed.shape[1]
    first = jnp.broadcast_to(jnp.arange(columns)[None], state.fed.shape)
    slot = lambda new, old: jnp.where(fresh[:, None], new, old)
    old = state.rollout
    return state._replace(
        fed=slot(task.opening[:, None], state.fed),
        age=slot(0, state.age),
        index=slot(first, state.index),
        issued=jnp.where(fresh, columns, state.issued),
        rollout=Rollout(
            jnp.where(fresh[:, None, None], pad, old.tokens),
            *(slot(jnp.zeros_like(x), x) for x in old[1:]),
        ),
    )


def busy(state: State) -> Array:
    """Rows [R] with a response that has not ended."""
    return (state.index < state.rollout.length.shape[1]).any(-1)


def step(
    model: transformer.Transformer,
    task: Task,
    state: State,
    *,
    end: tuple[int, ...],
    sampling: Sampling,
) -> State:
    """One more token in every slot; where that ends the response, the row's next."""
    (rows, _), (_, n, horizon) = state.fed.shape, task.u.shape
    position = task.prefix.visible.sum(-1)[:, None] + state.age
    hidden, rings = model(
        state.fed[..., None],
        position[..., None],
        cache.decode(task.prefix, state.rings, state.clock, state.age),
    )
    row = jnp.broadcast_to(jnp.arange(rows)[:, None], state.fed.shape)
    at = row, state.index  # index n, an empty slot, is outside: it writes nothing
    u = task.u.at[*at, state.age].get(mode="clip")
    token, base, own = draw(u, model.logits(hidden[:, :, 0]), sampling)
    old = state.rollout
    active = state.index < n
    last = jnp.isin(token, jnp.asarray(end, jnp.int32)) | (state.age + 1 == horizon)
    ended = active & last
    rank = jnp.cumsum(ended, axis=1) - 1
    begun = jnp.minimum(state.issued[:, None] + rank, n)
    return State(
        rings=rings,
        clock=state.clock + 1,
        fed=jnp.where(ended, task.opening[:, None], token),
        age=jnp.where(active & ~ended, state.age + 1, 0),
        index=jnp.where(ended, begun, state.index),
        issued=jnp.minimum(state.issued + ended.sum(-1), n),
        rollout=Rollout(
            old.tokens.at[*at, state.age].set(token, mode="drop"),
            old.length.at[at].set(state.age + 1, mode="drop"),
            old.base_log_prob.at[at].add(base, mode="drop"),
            old.sampler_log_prob.at[at].add(own, mode="drop"),
        ),
    )
