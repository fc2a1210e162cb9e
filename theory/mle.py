"""The law of conditional maximum likelihood over a finite class (Lem F.1).

pihat = argmax_{pi in Pi} sum_i log pi(y_i|x_i), with (x_i, y_i) i.i.d. from mu x truth.
The counts of the cells (x, y) are sufficient, and cells where every member has the same
ratio to the truth are one cell: what is left is small enough to enumerate, or one
multinomial draw a replication. Ties of the likelihood go against the claim.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaln, logsumexp

from theory.families import compositions

# Cells whose log-ratios agree to MERGED are one; so after n <= 3e5 draws two
# log-likelihoods closer than TIED may be equal on paper, and count as tied.
MERGED = 12  # decimals
TIED = 1e-6
LARGEST = 300_000  # rows of an enumeration: a second and some 10 MB


class Cells(NamedTuple):
    """The sufficient cells of a class: what the data can tell apart."""

    probability: Float[np.ndarray, " C"]  # of a draw to fall in the cell
    log_ratio: Float[np.ndarray, "K C"]  # log pi_k/truth there, -inf where pi_k = 0


def cells(
    truth: Float[np.ndarray, "X Y"],
    mu: Float[np.ndarray, " X"],
    members: Float[np.ndarray, "K X Y"],
) -> Cells:
    """Merge the cells (x, y) in which every member has the same ratio to the truth.

    Raises ValueError unless some member is the truth (the lemma needs pi* in Pi).
    """
    if not any(np.array_equal(member, truth) for member in members):
        raise ValueError("expected the truth among the members of the class")
    joint = mu[:, None] * truth
    seen = joint > 0
    with np.errstate(divide="ignore"):
        log_ratio = np.log(members[:, seen] / truth[seen])
    _, group = np.unique(np.round(log_ratio, MERGED), axis=1, return_inverse=True)
    group = group.ravel()
    probability = np.bincount(group, weights=joint[seen])
    first = np.array([np.argmax(group == c) for c in range(len(probability))])
    return Cells(probability / probability.sum(), log_ratio[:, first])


def _worst_selected(
    loss: Float[np.ndarray, " K"], counts: Int[np.ndarray, "T C"], found: Cells
) -> Float[np.ndarray, " T"]:
    """The largest loss among the members that maximise the likelihood, per outcome."""
    finite = np.isfinite(found.log_ratio)
    scores = counts @ np.where(finite, found.log_ratio, 0.0).T
    scores = np.where(counts @ (~finite).T > 0, -np.inf, scores)
    best = scores.max(-1, keepdims=True)
    tied = scores >= best - TIED * (1 + np.abs(best))
    return np.where(tied, loss, -np.inf).max(-1)


def log_exceedance(
    loss: Float[np.ndarray, " K"],
    thresholds: Float[np.ndarray, " L"],
    found: Cells,
    *,
    n: int,
) -> Float[np.ndarray, " L"]:
    """log P[ loss(pihat) >= threshold ] by enumeration of the counts.

    Raises ValueError when there are too many outcomes to enumerate.
    """
    count = len(found.probability)
    log_rows = gammaln(n + count) - gammaln(n + 1) - gammaln(count)
    if log_rows > np.log(LARGEST):
        raise ValueError(
            f"expected at most {LARGEST} outcomes, found n={n} draws in {count} cells"
        )
    counts = compositions(n, count)
    log_weight = gammaln(n + 1) - gammaln(counts + 1).sum(-1)
    log_weight = log_weight + counts @ np.log(found.probability)
    worst = _worst_selected(loss, counts, found)
    reached = worst[:, None] >= thresholds
    with np.errstate(divide="ignore"):
        total = np.asarray(logsumexp(log_weight[:, None], axis=0, b=reached))
    return np.minimum(total, 0.0)


def replicate(
    rng: np.random.Generator,
    loss: Float[np.ndarray, " K"],
    found: Cells,
    *,
    n: int,
    replications: int,
) -> Float[np.ndarray, " R"]:
    """Independent draws of loss(pihat), each from n fresh samples."""
    counts = rng.multinomial(n, found.probability, size=replications)
    return _worst_selected(loss, counts, found)
