"""The quantities of the paper's section 2, exact on tables.

Shapes: `pi`, `pi_base`, `reward` [X Y] and `mu` [X]; rows of `pi` and `mu` sum to one.
All functions are pure and may be jitted, vmapped and differentiated; expectations run
over supports only, so a zero probability never yields 0 * inf. XLA flushes subnormal
numbers to zero: the smallest probability it can hold is 2.2e-308.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from theory.precision import TIE, Scalar, needs_float64

Table = Float[Array, "X Y"]


@needs_float64
def expectation(mu: Float[Array, " X"], values: Float[Array, " X"]) -> Float[Array, ""]:
    """E_mu[v(x)] = sum over supp(mu) of mu(x) v(x); off supp, infinities vanish."""
    inside = mu > 0
    return jnp.sum(jnp.where(inside, mu * jnp.where(inside, values, 0.0), 0.0))


@needs_float64
def maximisers(pi: Table, *, gamma: Scalar = 0.0) -> Bool[Array, "X Y"]:
    """Membership of Y*_g(x) = { y : pi(y|x) >= (1-g) max_y' pi(y'|x) } (section 2).

    gamma in [0, 1); at gamma = 0 ties are exact equality of float64 numbers. Above, the
    product (1-g) max is rounded, so the threshold yields by the relative
    `precision.TIE`, in favour of membership: 0.04 = 0.8 * 0.05 counts at gamma = 0.2.
    """
    top = jnp.max(pi, axis=-1, keepdims=True)
    near = (1.0 - gamma) * top * (1.0 - TIE)
    return pi >= jnp.where(jnp.greater(gamma, 0), near, top)


@needs_float64
def mass(pi: Table, members: Bool[Array, "X Y"]) -> Float[Array, " X"]:
    """pi(S|x) = sum over y in S(x) of pi(y|x)."""
    return jnp.sum(jnp.where(members, pi, 0.0), axis=-1)


@needs_float64
def coverage(
    pi_base: Table, mu: Float[Array, " X"], *, gamma: Scalar = 0.0, p: Scalar = 1.0
) -> Float[Array, ""]:
    """C_cov,g,p = ( E_mu[ pi_base(Y*_g(x)|x)^-p ] )^(1/p) (Eq 6; p >= 1, section 2).

    C_cov is the default, C_cov,g sets gamma.
    """
    inverse = 1.0 / mass(pi_base, maximisers(pi_base, gamma=gamma))
    # Homogeneous in `inverse`: dividing by its largest value, large p cannot overflow.
    scale = jax.lax.stop_gradient(jnp.max(jnp.where(mu > 0, inverse, 0.0)))
    return scale * expectation(mu, (inverse / scale) ** p) ** (1.0 / p)


@needs_float64
def coverage_bar(pi_base: Table, mu: Float[Array, " X"]) -> Float[Array, ""]:
    """Cbar_cov = E_mu[ 1/max_y pi_base(y|x) ], at least C_cov (App D)."""
    return expectation(mu, 1.0 / jnp.max(pi_base, axis=-1))


@needs_float64
def sharpened_fraction(
    pihat: Table,
    pi_base: Table,
    mu: Float[Array, " X"],
    *,
    delta: Scalar,
    gamma: Scalar = 0.0,
) -> Float[Array, ""]:
    """P_mu[ pihat(Y*_g(x)|x) >= 1-delta ], Y*_g of the base (Def 3.1, F.1).

    pihat is (eps, delta, g)-sharpened when this is at least 1-eps. Decided on the mass
    off Y*_g, which keeps its digits where 1-delta does not, up to `precision.TIE`.
    """
    off = mass(pihat, ~maximisers(pi_base, gamma=gamma))
    return jnp.sum(jnp.where(off <= delta * (1.0 + TIE), mu, 0.0))


@needs_float64
def failure_fraction(
    pihat: Table,
    pi_base: Table,
    mu: Float[Array, " X"],
    *,
    delta: Scalar,
    gamma: Scalar = 0.0,
) -> Float[Array, ""]:
    """P_mu[ pihat(Y*_g(x)|x) <= 1-delta ], the left side of Thm 4.1', D.1 and 4.2'.

    The event is closed, as printed: mass off Y*_g equal to delta counts here and in
    `sharpened_fraction`. Decided as there.
    """
    off = mass(pihat, ~maximisers(pi_base, gamma=gamma))
    return jnp.sum(jnp.where(off >= delta * (1.0 - TIE), mu, 0.0))


@needs_float64
def concentrability_beta(
    pi: Table, pi_ref: Table, mu: Float[Array, " X"], *, beta: Scalar
) -> Float[Array, ""]:
    """C_{pi/pi_ref;beta} = E_{x~mu, y~pi}[ (pi(y|x)/pi_ref(y|x))^beta ] (Eq 9).

    +inf when pi has mass where pi_ref has none (beta > 0).
    """
    inside = (pi > 0) & (mu > 0)[:, None]
    both = inside & (pi_ref > 0)
    ratio = jnp.where(both, pi, 1.0) / jnp.where(both, pi_ref, 1.0)
    finite = jnp.sum(jnp.where(both, pi * ratio**beta, 0.0), axis=-1)
    escapes = jnp.any(inside & ~both, axis=-1)
    return expectation(mu, jnp.where(escapes, jnp.inf, finite))


@needs_float64
def concentrability_beta_log(
    log_pi: Table, log_pi_ref: Table, mu: Float[Array, " X"], *, beta: Scalar
) -> Float[Array, ""]:
    """`concentrability_beta` from log-probabilities, for a pi_ref that underflows."""
    inside = (log_pi > -jnp.inf) & (mu > 0)[:, None]
    both = inside & (log_pi_ref > -jnp.inf)
    ratio = jnp.where(both, log_pi, 0.0) - jnp.where(both, log_pi_ref, 0.0)
    terms = jnp.exp(jnp.where(both, log_pi, 0.0) + beta * ratio)
    finite = jnp.sum(jnp.where(both, terms, 0.0), axis=-1)
    escapes = jnp.any(inside & ~both, axis=-1)
    return expectation(mu, jnp.where(escapes, jnp.inf, finite))


@needs_float64
def concentrability(
    pi: Table, pi_base: Table, mu: Float[Array, " X"]
) -> Float[Array, ""]:
    """C_pi = E_{x~mu, y~pi}[ pi(y|x)/pi_base(y|x) ] (section 4.2)."""
    return concentrability_beta(pi, pi_base, mu, beta=1.0)


def _least_excess(
    top: Float[Array, " X"], pi: Table, rivals: Bool[Array, "X Y"]
) -> Float[Array, ""]:
    """min over rivals of top(x)/pi(y|x) - 1; +inf when no rival has mass."""
    present = rivals & (pi > 0)
    excess = (top[:, None] - pi) / jnp.where(present, pi, 1.0)
    return jnp.min(jnp.where(present, excess, jnp.inf))


@needs_float64
def margin(pi_base: Table, mu: Float[Array, " X"]) -> Float[Array, ""]:
    """Largest g_m with max_y pi_base(y|x) >= (1+g_m) pi_base(y'|x) (Asm 4.2).

    Over x in supp(mu) and y' not in Y*(x); +inf when no such y' has mass.
    """
    rivals = ~maximisers(pi_base) & (mu > 0)[:, None]
    return _least_excess(jnp.max(pi_base, axis=-1), pi_base, rivals)


@needs_float64
def approximate_margin(
    pi_base: Table, mu: Float[Array, " X"], *, gamma: Scalar
) -> Float[Array, ""]:
    """Largest g_m with pi_base(Y*_g(x)|x) >= (1+g_m) pi_base(y|x) (Asm J.2).

    As printed: over x in supp(mu) and y not in Y*_g(x), and the left side is the mass
    of the set, not its largest member. +inf when no such y has mass.
    """
    members = maximisers(pi_base, gamma=gamma)
    rivals = ~members & (mu > 0)[:, None]
    return _least_excess(mass(pi_base, members), pi_base, rivals)


@needs_float64
def log_probability(pi: Table) -> Table:
    """r_self(y|x) = log pi(y|x), -inf at zero: ML sharpening (section 2)."""
    return jnp.where(pi > 0, jnp.log(jnp.where(pi > 0, pi, 1.0)), -jnp.inf)


@needs_float64
def length_normalised(pi: Table, lengths: Int[Array, "X Y"]) -> Table:
    """r_self(y|x) = log pi(y|x) / |y| with lengths |y| >= 1 (section 3)."""
    return log_probability(pi) / lengths.astype(pi.dtype)


@needs_float64
def majority_mass(pi: Table, answers: Int[Array, "X Y"]) -> Table:
    """r_self(y|x) = sum of pi(y'|x) over y' with the answer of y; memory X Y^2."""
    same = answers[:, :, None] == answers[:, None, :]
    return jnp.sum(jnp.where(same, pi[:, None, :], 0.0), axis=-1)


@needs_float64
def log_tilt(pi_base: Table, reward: Table, *, beta: Scalar) -> Table:
    """log pi*_beta, pi*_beta(y|x) proportional to pi_base(y|x) exp(r(x,y)/beta) (Eq 4).

    -inf where pi_base or exp(r) is zero. Kept in logs because small beta sends
    probabilities below what float64 can hold. Every row needs one response with
    pi_base > 0 and r > -inf.
    """
    inside = (pi_base > 0) & (reward > -jnp.inf)
    best = jnp.max(jnp.where(inside, reward, -jnp.inf), axis=-1, keepdims=True)
    gain = (jnp.where(inside, reward, best) - best) / beta
    logits = jnp.log(jnp.where(inside, pi_base, 1.0)) + gain
    return jax.nn.log_softmax(logits, axis=-1, where=inside)


@needs_float64
def tilt(pi_base: Table, reward: Table, *, beta: Scalar) -> Table:
    """pi*_beta(y|x) proportional to pi_base(y|x) exp(r(x,y)/beta) (Eq 4)."""
    return jnp.exp(log_tilt(pi_base, reward, beta=beta))


@needs_float64
def log_pi_star_beta(pi_base: Table, *, beta: Scalar) -> Table:
    """log pi*_beta of ML sharpening, pi*_beta ~ pi_base^(1+1/beta), normalised.

    From ratios to the largest probability, so that near ties survive beta = 1e-4.
    """
    inside = pi_base > 0
    top = jnp.max(pi_base, axis=-1, keepdims=True)
    ratio = jnp.where(inside, pi_base, top) / top
    logits = (1.0 + 1.0 / beta) * jnp.log(ratio)
    return jax.nn.log_softmax(logits, axis=-1, where=inside)


@needs_float64
def pi_star_beta(pi_base: Table, *, beta: Scalar) -> Table:
    """pi*_beta(y|x) = pi_base(y|x)^(1+1/beta) / Z(x): `tilt` by r = log pi_base."""
    return jnp.exp(log_pi_star_beta(pi_base, beta=beta))


@needs_float64
def kl(p: Table, q: Table) -> Float[Array, " X"]:
    """KL(p||q) = sum_y p(y|x) log( p(y|x)/q(y|x) ) by row; +inf off supp(q)."""
    both = (p > 0) & (q > 0)
    log_ratio = jnp.log(jnp.where(both, p, 1.0) / jnp.where(both, q, 1.0))
    escapes = jnp.any((p > 0) & ~both, axis=-1)
    return jnp.where(escapes, jnp.inf, jnp.sum(p * log_ratio, axis=-1))


@needs_float64
def kl_log(log_p: Table, log_q: Table) -> Float[Array, " X"]:
    """`kl` from log-probabilities, for a q such as pi*_beta that underflows."""
    both = (log_p > -jnp.inf) & (log_q > -jnp.inf)
    log_ratio = jnp.where(both, log_p, 0.0) - jnp.where(both, log_q, 0.0)
    escapes = jnp.any((log_p > -jnp.inf) & ~both, axis=-1)
    return jnp.where(escapes, jnp.inf, jnp.sum(jnp.exp(log_p) * log_ratio, axis=-1))


@needs_float64
def objective(
    pi: Table,
    pi_base: Table,
    reward: Table,
    mu: Float[Array, " X"],
    *,
    beta: Scalar,
) -> Float[Array, ""]:
    """J_beta(pi) = E_{x~mu, y~pi}[r(x,y)] - beta E_mu KL(pi||pi_base) (Eq 3)."""
    value = jnp.sum(
        jnp.where(pi > 0, pi * jnp.where(pi > 0, reward, 0.0), 0.0), axis=-1
    )
    return expectation(mu, value - beta * kl(pi, pi_base))


@needs_float64
def hellinger_squared(p: Table, q: Table) -> Float[Array, " X"]:
    """D_H^2(p,q) = sum_y ( sqrt p(y|x) - sqrt q(y|x) )^2 by row, no factor 1/2."""
    root = lambda a: jnp.where(a > 0, jnp.sqrt(jnp.where(a > 0, a, 1.0)), 0.0)
    total = root(p) + root(q)
    # (p - q)/(sqrt p + sqrt q) is the same difference without its cancellation.
    return jnp.sum(((p - q) / jnp.where(total > 0, total, 1.0)) ** 2, axis=-1)
