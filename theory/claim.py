"""A claim of the paper is data: how it is attacked, its two sides, its planted bugs.

    attack(key, effort) -> batches of instances -> sides(batch): left <= right -> judge

Every claim is read as `left <= right` over instances. An instance is a dict of named
arrays, a batch stacks K of them on the first axis, so that one jitted call judges all,
and a witness is one instance, which can be saved, reloaded and judged again.

A twin is a deliberately wrong version of the claim, judged on the same instances: it
shows that the attack has the power to tell the two apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jsharp.stats import Outcome, Slope

Instance = dict[str, np.ndarray]
Batch = dict[str, np.ndarray]  # instances stacked on the first axis, K of them
Number = Decimal | Fraction

# Both sides are sums and products of at most a few thousand non-negative float64
# numbers, and of powers whose logarithm stays below 700: relative errors stay under
# 1e4 * 2**-53 * 700 < 1e-9. What exceeds `right` by less is not called a violation.
ROUNDING = 1e-9
EXACT = Fraction(1, 10**30)  # relative: decimals carry 50 digits, rationals all


# Each program here runs for milliseconds and would compile for seconds: without fusion
# emitters and LLVM's passes XLA compiles it ten times faster, to the same arithmetic.
COMPILE_FAST = {
    "xla_cpu_use_fusion_emitters": False,
    "xla_backend_optimization_level": 0,
    "xla_cpu_parallel_codegen_split_count": 1,
}


# The Monte Carlo intervals of one whole `jsharp verify`, taken together, miss a truth
# with probability at most FALSE_ALARM: each of at most INTERVALS of them has LEVEL.
FALSE_ALARM = 1e-3
INTERVALS = 100
LEVEL = FALSE_ALARM / INTERVALS


class Effort(NamedTuple):
    """How hard an attack tries: starts and steps of the search, drawn instances.

    `replications` is how often a Monte Carlo claim repeats its experiment.
    """

    starts: int
    steps: int
    instances: int
    replications: int


QUICK = Effort(starts=32, steps=200, instances=64, replications=4000)
FULL = Effort(starts=256, steps=2000, instances=1024, replications=40_000)


class Sides(NamedTuple):
    """left <= right, claimed for each of K instances.

    Exact sides have low = high = left. Sampled ones bracket the true left side:
    [low, high] misses it with probability at most `level`, at a cost of `queries`.
    """

    left: Float[np.ndarray, " K"]
    right: Float[np.ndarray, " K"]
    low: Float[np.ndarray, " K"]
    high: Float[np.ndarray, " K"]
    level: float = 0.0
    queries: int = 0


class Verdict(NamedTuple):
    """The outcome over all instances, with both sides at the tightest one.

    `level` bounds the probability that chance alone decided (0: nothing was sampled).
    """

    outcome: Outcome
    left: float
    right: float
    level: float
    instances: int
    queries: int
    witness: Instance

    @property
    def tightness(self) -> float:
        """left/right at the tightest instance: at 1, no constant can be saved."""
        return float(ratio(np.array([self.left]), np.array([self.right]))[0])


class Twin(NamedTuple):
    """A variant of a claim and the outcome it must have on the claim's instances.

    Of a claim that holds, a planted bug (must fail). Of a claim that fails as printed,
    its control (must hold): the instances do not refute everything.
    """

    name: str
    sides: Callable[[Batch], Sides]
    expected: Outcome = "fails"


class Exponent(NamedTuple):
    """A rate that the claim predicts, y ~ x^predicted, beside the fitted one.

    The theory bounds y from above ("at most") or from below ("at least"); it is
    contradicted when the whole interval of the fit lies on the wrong side.
    """

    of: str  # "m against 1/eps"
    predicted: float
    bound: Literal["at most", "at least"]
    found: Slope

    @property
    def agrees(self) -> bool:
        if self.bound == "at most":
            return self.found.low <= self.predicted
        return self.found.high >= self.predicted


@dataclass(frozen=True)
class Claim:
    """One statement of the paper and how to judge it.

    `exact`, where it exists, evaluates both sides of one instance in rationals or
    50-digit decimals: a violation found in float64 counts only if it confirms it.
    `expected` is "fails" for a statement known to be false as printed; `repairs` names
    the claim of which this one is the corrected form. `exponents` fits the rates of a
    claim whose constant is hidden.
    """

    id: str
    statement: str
    kind: Literal["exact", "monte carlo"]
    attack: Callable[[Key[Array, ""], Effort], Sequence[Batch]]
    sides: Callable[[Batch], Sides]
    twins: tuple[Twin, ...]
    expected: Outcome = "holds"
    exact: Callable[[Instance], tuple[Number, Number]] | None = None
    repairs: str = ""
    exponents: Callable[[Effort], tuple[Exponent, ...]] | None = None

    @property
    def paper_id(self) -> str:
        """The paper's own number, `Lem 4.1'` of `Lem 4.1' (repaired)`."""
        return self.id.split(" (")[0]


class Report(NamedTuple):
    """A claim's verdict and, on the same instances, those of its twins."""

    claim: Claim
    verdict: Verdict
    twins: dict[str, Verdict]
    exponents: tuple[Exponent, ...] = ()

    @property
    def twins_as_expected(self) -> int:
        return sum(
            self.twins[twin.name].outcome == twin.expected for twin in self.claim.twins
        )

    @property
    def as_expected(self) -> bool:
        """The claim came out as known, and its check kept its power."""
        return (
            self.verdict.outcome == self.claim.expected
            and self.twins_as_expected == len(self.claim.twins)
            and all(exponent.agrees for exponent in self.exponents)
        )


def examine(key: Key[Array, ""], claim: Claim, *, effort: Effort) -> Report:
    """Attack once; judge the claim and its twins on the instances found."""
    batches = claim.attack(key, effort)
    return Report(
        claim=claim,
        verdict=judge(batches, claim.sides, exact=claim.exact),
        twins={twin.name: judge(batches, twin.sides) for twin in claim.twins},
        exponents=claim.exponents(effort) if claim.exponents else (),
    )


def exactly(left: np.ndarray, right: np.ndarray) -> Sides:
    """Sides without sampling error."""
    left, right = np.asarray(left, float), np.asarray(right, float)
    return Sides(left=left, right=right, low=left, high=left)


def compiled(function: Callable) -> Callable:
    """jax.jit for a program that runs once: compiled fast rather than to run fast."""
    return jax.jit(function, compiler_options=COMPILE_FAST)


def vectorised(
    pair: Callable[[dict[str, Array]], tuple[Array, Array]],
) -> Callable[[Batch], Sides]:
    """Lift a jittable `pair(instance) -> (left, right)` to batches.

    `lax.map`, not vmap: every instance meets the same scalar code whatever K, so a
    witness replayed alone gives the same bits.
    """
    mapped = compiled(lambda batch: jax.lax.map(pair, batch))

    def sides(batch: Batch) -> Sides:
        left, right = mapped({name: jnp.asarray(a) for name, a in batch.items()})
        return exactly(np.asarray(left), np.asarray(right))

    return sides


def scaled(sides: Callable[[Batch], Sides], factor: float) -> Callable[[Batch], Sides]:
    """The planted bug of a constant that is too small: right becomes factor * right."""

    def bug(batch: Batch) -> Sides:
        found = sides(batch)
        return found._replace(right=factor * found.right)

    return bug


def one_by_one(
    pair: Callable[[Instance], tuple[float, float]],
) -> Callable[[Batch], Sides]:
    """Lift a host function `pair(instance) -> (left, right)` to batches."""

    def sides(batch: Batch) -> Sides:
        left, right = zip(*map(pair, unstack(batch)), strict=True)
        return exactly(np.array(left), np.array(right))

    return sides


def stack(instances: Sequence[Instance]) -> Batch:
    """Stack instances of equal shapes into a batch."""
    names = instances[0].keys()
    return {name: np.stack([i[name] for i in instances]) for name in names}


def join(*batches: Batch) -> Batch:
    """One batch of instances that have the same names and shapes."""
    names = batches[0].keys()
    return {name: np.concatenate([b[name] for b in batches]) for name in names}


def unstack(batch: Batch) -> list[Instance]:
    """The instances of a batch."""
    size = len(next(iter(batch.values())))
    return [{n: np.asarray(a[k]) for n, a in batch.items()} for k in range(size)]


def judge(
    batches: Sequence[Batch],
    sides: Callable[[Batch], Sides],
    *,
    exact: Callable[[Instance], tuple[Number, Number]] | None = None,
) -> Verdict:
    """The verdict over all instances: one confirmed violation and the claim fails.

    Without one, the tightest instance is shown among those that `exact` did not have
    to acquit; where it acquitted all of them, the sides shown are its own.

    Raises FloatingPointError when a side is NaN or both are infinite: a comparison of
    them would pass.
    """
    found = [sides(batch) for batch in batches]
    left, right, low, high = (
        np.concatenate([np.atleast_1d(s[i]) for s in found]) for i in range(4)
    )
    _refuse_undefined(np.stack([left, right, low, high]))
    instances = [i for batch in batches for i in unstack(batch)]
    limit = right + ROUNDING * np.abs(right)
    order = np.argsort(-ratio(left, right), kind="stable")
    suspects = low > limit
    confirmed = lambda k: exact is None or _violated(*exact(instances[k]))
    refuted = next((k for k in order if suspects[k] and confirmed(k)), None)
    if refuted is not None:
        outcome = "fails"
    else:
        unsure = (low <= limit) & (high > limit)
        outcome = "undecided" if unsure.any() else "holds"
    # What is left of the suspects here, if nothing is refuted, `exact` has acquitted.
    innocent = [k for k in order if not suspects[k]]
    worst = (innocent or order)[0] if refuted is None else refuted
    shown = (left[worst], right[worst])
    if refuted is None and exact is not None and not innocent:
        shown = exact(instances[worst])
    return Verdict(
        outcome=outcome,
        left=float(shown[0]),
        right=float(shown[1]),
        level=float(sum(s.level * len(np.atleast_1d(s.left)) for s in found)),
        instances=len(left),
        queries=sum(s.queries for s in found),
        witness=instances[worst],
    )


def _refuse_undefined(sides: Float[np.ndarray, "4 K"]) -> None:
    undefined = np.isnan(sides).any(0) | np.isposinf(sides[:2]).all(0)
    if undefined.any():
        found = f"NaN, or inf on both, at {np.flatnonzero(undefined).tolist()}"
        raise FloatingPointError(f"expected numbers as sides, found {found}")


def _violated(left: Number, right: Number) -> bool:
    left, right = Fraction(left), Fraction(right)
    return left > right + EXACT * abs(right)


def ratio(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """left/right; 0 where both are 0, inf where only the right side is."""
    positive = right > 0
    quotient = left / np.where(positive, right, 1.0)
    return np.where(positive, quotient, np.where(left > right, np.inf, 0.0))
