"""A simulator that samples laws, not samples: its cost grows with no N, mu or 1/P*.

Give each draw y the height e = -log(1-u), u uniform on the mass from the best response
down: e ~ Exp(1), and the draw is at the first level j (equal scores are one level) with
h_j > e, for

    h_j = -log(mass of the levels worse than j)        (h_0 = 0, the last one inf).

The best draw is the lowest, and the lowest of N heights is Exp(1)/N: one uniform and
one binary search give the best of N, whatever N (the order statistic at the quantile
1-(1-u)^(1/N), in logs, so that neither tail loses digits). Within a level the winner
is drawn in proportion to mass, by what the level's heights leave of the same uniform.

Everything is pure, jittable and vmappable, in the dtype of the table: a float32 uniform
has 23 bits, so probabilities below 1e-7 need float64.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from jsharp.loop import scan
from jsharp.policy import Params, Policy, Prompts, Response, freeze, uniforms
from jsharp.update import finite_class, first_argmax
from jsharp.xpo import xpo
from theory.precision import Scalar

# Stands for log 0 in the likelihood: once is enough, and 1e7 times are no overflow.
IMPOSSIBLE = -1e30


class Ranked(NamedTuple):
    """A table sorted by score, best first; S is Y rounded up to a power of two.

    A place of zero mass has the height and the reach of the place before it, so a
    search for the first place above a number never finds it.
    """

    response: Int[Array, "X Y"]  # at each place
    low: Float[Array, "X S"]  # h of the level before the place's own, 0 at first
    height: Float[Array, "X S"]  # h of the place's level
    reach: Float[Array, "X S"]  # mass of this place and of better ones
    share: Float[Array, "X S"]  # mass of the place over the mass of its level
    last: Int[Array, "X S"]  # the last place of the level that has mass
    tied: Bool[Array, ""]  # whether some level has two responses of positive mass


class Stopping(NamedTuple):
    """A table prepared for the rule of Eq 10 at one mu, in the order of `ranked`."""

    ranked: Ranked
    first: Float[Array, "X S"]  # k_j: the place is accepted from this draw on
    hazard: Float[Array, "X S"]  # -log P[N >= k_{j+1}] = (k_{j+1}-1) h_j
    before: Float[Array, "X S"]  # h of the levels accepted before draw k_j


class Adaptive(NamedTuple):
    """What adaptive best-of-N returned, and how many draws it took."""

    response: Int[Array, "X R"]
    draws: Float[Array, "X R"]  # N_mu, an integer as long as the dtype can count


def rank(pi: Float[Array, "X Y"], score: Float[Array, "X Y"]) -> Ranked:
    """Sort once, for any number of draws; equal scores are one level.

    Rows of pi sum to one; -inf is a score, NaN is not.
    """
    ranked = Ranked(*jax.vmap(_rank_row)(pi, score))
    return ranked._replace(tied=jnp.any(ranked.tied))


def _rank_row(pi: Float[Array, " Y"], score: Float[Array, " Y"]) -> tuple[Array, ...]:
    size = pi.size
    order = jnp.argsort(score, descending=True).astype(jnp.int32)
    mass, ranked = pi[order], score[order]
    steps = jnp.concatenate([jnp.zeros(1, bool), ranked[1:] != ranked[:-1]])
    level = jnp.cumsum(steps)
    weight = jax.ops.segment_sum(mass, level, size, indices_are_sorted=True)
    reached = jnp.cumsum(weight)
    below = jnp.concatenate(
        [jnp.cumsum(weight[::-1])[::-1][1:], jnp.zeros_like(pi[:1])]
    )
    # From the near end: log1p of what is reached while it is small, log of the rest.
    near = -jnp.log1p(-jnp.where(reached < 0.25, reached, 0.0))
    far = -jnp.log(jnp.where(below > 0, below, 1.0))
    exact = jnp.where(reached < 0.25, near, far)
    positive = mass > 0
    # Sums in parallel may fall, and rise over zeros: the maximum so far does neither.
    up = lambda a: jax.lax.cummax(jnp.where(positive, a, 0.0))
    height = up(jnp.where(below > 0, exact, jnp.inf)[level])
    places = jnp.arange(size, dtype=jnp.int32)
    head = jax.ops.segment_min(places, level, size, indices_are_sorted=True)[level]
    ends = jnp.where(positive, places, 0)
    last = jax.ops.segment_max(ends, level, size, indices_are_sorted=True)[level]
    low = jnp.where(head > 0, height[jnp.maximum(head - 1, 0)], 0.0)
    share = jnp.where(positive, mass / jnp.where(positive, weight[level], 1.0), 0.0)
    return (
        order,
        _pad(low, jnp.inf),
        _pad(height, jnp.inf),
        _pad(up(jnp.cumsum(mass)), jnp.inf),
        _pad(share, 0.0),
        _pad(last, size - 1),
        jnp.any(positive & (share < 1.0)),
    )


def _pad(row: Array, value: float | int) -> Array:
    """Lengthen to the next power of two."""
    return jnp.pad(
        row, (0, (1 << (row.size - 1).bit_length()) - row.size), constant_values=value
    )


def _first_above(
    rows: Float[Array, "X S"], x: Int[Array, "*s"], bound: Float[Array, "*s"]
) -> Int[Array, "*s"]:
    """The first place p with rows[x, p] > bound; rows ascend, S is a power of two."""
    size = rows.shape[1]
    flat, start = rows.reshape(-1), x * size
    place, half = start, size // 2
    while half:
        probe = flat.at[place + (half - 1)].get(mode="promise_in_bounds")
        place = jnp.where(probe <= bound, place + half, place)
        half //= 2
    return place - start


def _at(rows: Array, x: Int[Array, "*s"], place: Int[Array, "*s"]) -> Array:
    return rows.at[x, place].get(mode="promise_in_bounds")


def _respond(
    ranked: Ranked,
    x: Int[Array, "*s"],
    height: Float[Array, "*s"],
    rate: Scalar | Float[Array, "*s"],
) -> Int[Array, "*s"]:
    """The response at a height that is exponential of `rate` inside its level.

    Memoryless: with (a, b] the level's heights, (1-e^-rate(h-a)) / (1-e^-rate(b-a)) is
    uniform on [0, 1), and says where in the level's mass the response lies.
    """
    place = _first_above(ranked.height, x, height)

    def share(place: Array) -> Array:
        low, high = _at(ranked.low, x, place), _at(ranked.height, x, place)
        part = jnp.expm1(rate * (low - height)) / jnp.expm1(rate * (low - high))
        before = _at(ranked.reach, x, jnp.maximum(place - 1, 0))
        start, last = jnp.where(place > 0, before, 0.0), _at(ranked.last, x, place)
        within = start + part * (_at(ranked.reach, x, last) - start)
        return jnp.clip(_first_above(ranked.reach, x, within), place, last)

    place = jax.lax.cond(ranked.tied, share, lambda place: place, place)
    return _at(ranked.response, x, place)


def _rows(size: int, trials: int) -> Int[Array, "X R"]:
    rows = jnp.arange(size, dtype=jnp.int32)
    return jnp.broadcast_to(rows[:, None], (size, trials))


def best_of_n(
    key: Key[Array, ""], table: Ranked, *, n: Scalar, trials: int
) -> Int[Array, "X R"]:
    """`trials` responses of pi^BoN_N for each prompt: one uniform each, any n >= 1.

    The lowest of n heights is Exp(1)/n (section 3).
    """
    x = _rows(table.response.shape[0], trials)
    height = jax.random.exponential(key, x.shape, table.height.dtype) / n
    return _respond(table, x, height, n)


def stopping(pi: Float[Array, "X Y"], *, mu_threshold: Scalar) -> Stopping:
    """Prepare Eq 10 for a table: k_j = max(1, ceil(mu/v_j)), v_j the level's pi(y|x).

    mu_threshold > 0 is the paper's mu.
    """
    ranked = rank(pi, pi)
    value = jnp.take_along_axis(pi, ranked.response, axis=1)
    value = jax.vmap(lambda row: _pad(row, 0.0))(value)
    wait = jnp.ceil(mu_threshold / jnp.where(value > 0, value, 1.0))
    first = jnp.where(value > 0, jnp.maximum(wait, 1.0), jnp.inf)
    never = jnp.full_like(first[:, :1], jnp.inf)
    upcoming = jnp.concatenate([first[:, 1:], never], axis=1)
    # Levels accepted from the same draw on are one group; its last place speaks for it.
    closes = first < upcoming
    group = lambda a: jax.lax.cummax(jnp.where(closes, a, 0.0), axis=1)
    hazard = jnp.where(jnp.isinf(upcoming), jnp.inf, (upcoming - 1) * ranked.height)
    before = jnp.pad(group(ranked.height)[:, :-1], ((0, 0), (1, 0)))
    return Stopping(ranked, first, group(hazard), before)


def adaptive(key: Key[Array, ""], prepared: Stopping, *, trials: int) -> Adaptive:
    """Adaptive best-of-N (Eq 10) by two uniforms a trial, without drawing one by one.

    N > k means that all k heights exceed h_j, j the last level accepted at k, so that
    -log P[N > k] = k h_j rises with k, and N is the least k with k h_j > x, x ~ Exp(1):
    a search for j, then max(k_j, floor(x/h_j) + 1).

    Given N = n, let h' be the h of the levels accepted at n-1. The first n-1 heights
    are beyond h': beyond it, not before, they join the race, so the lowest height has
    cumulative hazard z(y) = min(y, h') + n max(y-h', 0), cut at z(h_j) since the rule
    stops. Inverting z at a truncated exponential gives the response.
    """
    table, key_n, key_y = prepared.ranked, *jax.random.split(key)
    x = _rows(table.response.shape[0], trials)
    waited = jax.random.exponential(key_n, x.shape, table.height.dtype)
    place = _first_above(prepared.hazard, x, waited)
    first, cut = _at(prepared.first, x, place), _at(table.height, x, place)
    n = jnp.maximum(first, jnp.floor(waited / cut) + 1)
    held = jnp.where(n > first, cut, _at(prepared.before, x, place))
    u = jax.random.uniform(key_y, x.shape, table.height.dtype)
    limit = held + jnp.where(cut > held, n * (cut - held), 0.0)
    z = -jnp.log1p(u * jnp.expm1(-limit))
    height = jnp.minimum(z, held) + jnp.maximum(z - held, 0.0) / n
    height = jnp.minimum(height, jnp.nextafter(cut, jnp.zeros_like(cut)))
    rate = jnp.where(height < held, jnp.ones_like(n), n)
    return Adaptive(_respond(table, x, height, rate), n)


def best_of_n_places(table: Ranked, *, n: Scalar) -> Float[Array, "X S"]:
    """pi^BoN_N in the order of places, exact: `laws.best_of_n_law` on a sorted table.

    P[the best of n is at level j] = e^(-n h_{j-1}) (1 - e^(-n (h_j - h_{j-1}))), shared
    in proportion to mass.
    """
    possible = table.share > 0
    gap = jnp.where(possible, table.low - table.height, 0.0)
    won = jnp.exp(n * -table.low) * -jnp.expm1(n * gap)
    return jnp.where(possible, table.share * won, 0.0)


def counts(
    key: Key[Array, ""], table: Ranked, prompts: Ranked, *, n: int, draws: Scalar
) -> Float[Array, " C"]:
    """How often each cell (x, y) occurs among n prompts and their best of `draws`.

    Sufficient for every likelihood fit; cells are numbered row by row, C = X Y.
    `prompts` is rank(mu[None], mu[None]): a prompt is the best of one draw from mu.
    """
    key_x, key_y = jax.random.split(key)
    x = best_of_n(key_x, prompts, n=1.0, trials=n)[0]
    height = jax.random.exponential(key_y, (n,), table.height.dtype) / draws
    y = _respond(table, x, height, draws)
    size = table.response.size
    cells = jnp.zeros(size, table.height.dtype)
    return cells.at[x * table.response.shape[1] + y].add(1.0)


def log_likelihoods(members: Float[Array, "K X Y"]) -> Float[Array, "C K"]:
    """log pi_k(y|x), one column for each member of a finite class, -1e30 for log 0."""
    cells = members.reshape(members.shape[0], -1).T
    logs = jnp.log(jnp.where(cells > 0, cells, 1.0))
    return jnp.where(cells > 0, logs, IMPOSSIBLE)


def maximum_likelihood(
    counts: Float[Array, "*r C"], log_prob: Float[Array, "C K"]
) -> Int[Array, "*r"]:
    """argmax_k sum_c counts_c log pi_k(c), one matrix product; ties go to the first.

    log_prob as `log_likelihoods` gives it, so that 0 log 0 = 0.
    """
    # Counts are integers of many digits: nothing less than full precision will do.
    score = jnp.matmul(counts, log_prob, precision=jax.lax.Precision.HIGHEST)
    return first_argmax(score)


def replicate_sft(
    key: Key[Array, ""],
    table: Ranked,
    prompts: Ranked,
    log_prob: Float[Array, "C K"],
    loss: Float[Array, " K"],
    *,
    n: int,
    draws: Scalar,
    replications: int,
    batch: int = 256,
) -> Float[Array, " R"]:
    """loss(pihat) in independent replications of SFT-Sharpening (section 2.1).

    Each: n prompts, best of `draws` for each, maximum likelihood over the K members,
    and the loss of the member chosen, for instance its failure fraction
    P_mu[pi_k(Y*) <= 1-delta]. `batch` replications share one matrix product.
    """

    def one(key: Array) -> Array:
        seen = counts(key, table, prompts, n=n, draws=draws)
        return loss[maximum_likelihood(seen, log_prob)]

    return jax.lax.map(one, jax.random.split(key, replications), batch_size=batch)


def numbered_class(tables: Float[Array, "K X Y"]) -> Policy:
    """A policy whose params are the number k of one of K tables, normalised once.

    What a finite class needs per step is then one look-up for each member.
    """
    size, rows, responses = tables.shape
    reach = jnp.cumsum(tables, axis=-1)
    reach = jax.lax.cummax(jnp.where(tables > 0, reach, 0.0), axis=2)
    total = reach[..., -1].reshape(-1)
    reach = jax.vmap(lambda row: _pad(row, jnp.inf))(reach.reshape(-1, responses))
    # Members last: a pair of responses asks all of them for neighbouring numbers.
    by_cell = jnp.log(tables).transpose(1, 2, 0)

    def look_up(k: Params, x: Array, y: Array) -> Array:
        return by_cell.at[x, y, k].get(mode="promise_in_bounds")

    def log_prob(k: Params, prompts: Prompts, response: Response) -> Array:
        return look_up(k, prompts.tokens[:, :1], response.tokens[..., 0])

    def sample(key, k: Params, prompts: Prompts, n: int) -> Response:
        x = jnp.broadcast_to(prompts.tokens[:, :1], (prompts.tokens.shape[0], n))
        u = uniforms(key, x.shape[0], n, 1)[..., 0].astype(tables.dtype)
        row = k * rows + x
        y = _first_above(reach, row, u * total[row])
        return Response(y[..., None], jnp.ones_like(y), look_up(k, x, y))

    init = lambda key: jax.random.randint(key, (), 0, size, jnp.int32)
    return Policy(init, sample, log_prob)


def xpo_runs(
    keys: Key[Array, " R"],
    base: Float[Array, "X Y"],
    members: Float[Array, "K X Y"],
    prompts: Prompts,
    *,
    alpha: float,
    beta: float,
) -> tuple[Any, Any]:
    """R independent runs of Alg 1 over a finite class of positive tables.

    prompts are stacked [T B ...]. Returns jsharp.xpo's State and Info, each field with
    leading axes [R] and [R T]; params are numbers of members, K the base policy.
    """
    size, rounds = members.shape[0], prompts.length.shape[0]
    policy = numbered_class(jnp.concatenate([members, base[None]]))
    start = jnp.asarray(size, jnp.int32)
    update = finite_class(jnp.arange(size, dtype=jnp.int32))
    fixed = freeze(policy, start)
    algorithm = xpo(policy, fixed, update, alpha=alpha, beta=beta, rounds=rounds)
    return jax.vmap(lambda key: scan(key, algorithm, start, prompts))(keys)
