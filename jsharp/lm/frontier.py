"""The open prefixes of one prompt, likeliest first, and the responses they lead to.

    bound(prefix) = log pi(prefix|x) >= log pi(y|x) of each y that begins with it

An expansion hands back the `children` likeliest tokens that follow a prefix and a bound
on all others, which stay one entry of the frontier: the host never holds a vocabulary,
and nothing is lost, for that entry is opened when its turn comes.
"""

import heapq
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jsharp.lm import expand
from jsharp.lm.attention import Prefix
from jsharp.lm.config import TransformerConfig
from jsharp.lm.shapes import bucket
from jsharp.policy import Params

Tokens = tuple[int, ...]

_SLOTS = 1024  # of the pool at first; it doubles when full


class _Opened(NamedTuple):
    """A prefix that was fed: its last token and where its keys and values are."""

    parent: "_Opened | None"
    token: int
    depth: int  # response tokens in it
    log_prob: float
    slot: int


class _Family(NamedTuple):
    """The open children of a prefix, best first, and a bound on those not returned."""

    parent: _Opened
    tokens: Int[np.ndarray, " c"]
    bounds: Float[np.ndarray, " c+1"]
    returned: Int[np.ndarray, " r"]  # all tokens handed back so far


class _Task(NamedTuple):
    """A prefix to expand, but for the children that were returned before."""

    prefix: _Opened
    returned: Int[np.ndarray, " r"]


class Space(NamedTuple):
    """What is searched, and in what strides."""

    config: TransformerConfig
    horizon: int
    end: tuple[int, ...]
    batch: int
    children: int
    tie: float


class Frontier:
    """A search in progress; it holds what is open, what was found and the pool.

    `found` maps responses to log-probabilities: those `known` before, and those the
    search met that are the best yet or within `space.tie` of it.
    """

    def __init__(
        self,
        params: Params,
        prefix: Prefix,
        opening: int,
        space: Space,
        known: dict[Tokens, float],
    ):
        self.params, self.prefix, self.space = params, prefix, space
        self.found, self.best = dict(known), max(known.values())
        self.pool = expand.empty(space.config, 1, _SLOTS)
        self.used = 1  # slots; the root's is 0
        self.heap: list[tuple[float, int, int, _Family]] = []
        self.pushed = 0
        root = _Opened(None, opening, 0, 0.0, 0)
        none = np.zeros(0, np.int32)
        self._push(_Family(root, none, np.zeros(1), none), 0)

    @property
    def top(self) -> float:
        """The largest bound on a response not seen; -inf where there is none."""
        return -self.heap[0][0] if self.heap else -np.inf

    @property
    def exact(self) -> bool:
        """Whether nothing open can be a response as likely as the best, or tied."""
        return self.top < self.best - self.space.tie

    def _push(self, family: _Family, child: int) -> None:
        bound = float(family.bounds[child])
        if bound > -np.inf and bound >= self.best - self.space.tie:
            # Of equal bounds the newest first: deep prefixes end soonest.
            self.pushed += 1
            heapq.heappush(self.heap, (-bound, -self.pushed, child, family))

    def advance(self, count: int) -> int:
        """Expand the likeliest open prefixes, at most `count`; how many those were."""
        tasks = self._pop(count)
        self._expand(tasks)
        return len(tasks)

    def _pop(self, count: int) -> list[_Task]:
        """The likeliest open prefixes; each leaves its next sibling on the frontier."""
        tasks: list[_Task] = []
        while len(tasks) < count and not self.exact:
            bound, _, child, family = heapq.heappop(self.heap)
            parent = family.parent
            if child == len(family.tokens):
                tasks.append(_Task(parent, family.returned))
                continue
            self._push(family, child + 1)
            token = int(family.tokens[child])
            opened = _Opened(parent, token, parent.depth + 1, -bound, self.used)
            tasks.append(_Task(opened, np.zeros(0, np.int32)))
            self.used += 1
        return tasks

    def _expand(self, tasks: list[_Task]) -> None:
        """One call of the device; what it finds joins the frontier and `found`."""
        while (capacity := self.pool[0].key.shape[3]) < self.used:
            self.pool = expand.grown(self.pool, 2 * capacity)
        space = self.space
        inputs = _inputs(tasks, space.batch, capacity, space.config.vocab_size)
        value, token, self.pool = expand.likeliest(
            self.params,
            self.prefix,
            self.pool,
            *inputs,
            config=space.config,
            children=space.children,
        )
        value, token = np.asarray(value, np.float64), np.asarray(token)
        for task, its_value, its_token in zip(tasks, value, token, strict=False):
            self._add(task, its_value, its_token)

    def _add(
        self, task: _Task, value: Float[np.ndarray, " c"], token: Int[np.ndarray, " c"]
    ) -> None:
        """Sort a prefix's likeliest children into responses and open prefixes."""
        prefix, space = task.prefix, self.space
        bounds = prefix.log_prob + value
        if len(value) <= space.children:  # the whole vocabulary: no others
            bounds = np.append(bounds, -np.inf)
        token = token[: len(bounds) - 1]
        over = np.isin(token, space.end) | (prefix.depth + 1 == space.horizon)
        past = tuple(node.token for node in _line(prefix))[-2::-1]
        for i in np.flatnonzero(over & (bounds[:-1] >= self.best - space.tie)):
            self.found[*past, int(token[i])] = float(bounds[i])
            self.best = max(self.best, float(bounds[i]))
        keep = np.append(~over, True)
        returned = np.concatenate([task.returned, token])
        self._push(_Family(prefix, token[~over], bounds[keep], returned), 0)


def _inputs(
    tasks: list[_Task], rows: int, slots: int, vocabulary: int
) -> tuple[Int[np.ndarray, "..."], ...]:
    """fed, path, depth and returned of `expand.likeliest`, in buckets of shapes."""
    fed, depth = np.zeros((2, 1, rows), np.int32)
    longest = max(task.prefix.depth for task in tasks) + 1
    # Slots past the pool: what idle rows write is dropped.
    path = np.full((1, rows, bucket(longest, 16)), slots, np.int32)
    most = max(len(task.returned) for task in tasks)
    returned = np.full((rows, bucket(most, 64)), vocabulary, np.int32)
    for i, task in enumerate(tasks):
        fed[0, i], depth[0, i] = task.prefix.token, task.prefix.depth
        returned[i, : len(task.returned)] = task.returned
        for node in _line(task.prefix):
            path[0, i, node.depth] = node.slot
    return fed, path, depth, returned


def _line(prefix: _Opened | None) -> Iterator[_Opened]:
    """The prefix and its ancestors, down to the root."""
    while prefix is not None:
        yield prefix
        prefix = prefix.parent
