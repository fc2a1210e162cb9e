"""Toy policies whose every law can be enumerated: tables and softmax over features.

table                   pi(y|x) = softmax(theta_x)_y               P = H = 1
linear_softmax          pi(y|x) ~ exp <phi(x, y), theta>           P = H = 1
autoregressive_softmax  pi(y_h|x, y_<h) ~ exp <phi_h(x, y_<=h), theta_h>
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jsharp.policy import (
    Params,
    Policy,
    Prompts,
    Response,
    inverse_cdf,
    lengths,
    mask,
    uniforms,
)


def prompts_of(index: Int[Array, " B"]) -> Prompts:
    """Prompts of a toy policy: prompt x is the single token x."""
    index = jnp.asarray(index, jnp.int32)
    return Prompts(index[:, None], jnp.ones(index.shape, jnp.int32))


def table(n_prompts: int, n_responses: int) -> Policy:
    """All conditional laws; params are logits [X Y]."""
    return _one_step(
        lambda key: jax.random.normal(key, (n_prompts, n_responses)),
        lambda logits, x: logits[x],
    )


def linear_softmax(features: Float[Array, "X Y d"]) -> Policy:
    """Linear softmax (Lem J.4); params are theta [d]."""
    return _one_step(
        lambda key: jax.random.normal(key, features.shape[-1:]),
        lambda theta, x: jnp.einsum("byd,d->by", features[x], theta),
    )


def _one_step(init, logits_of) -> Policy:
    """A policy of single-token responses from logits_of(params, x [B]) -> [B Y]."""

    def log_probs(params: Params, prompts: Prompts) -> Float[Array, "B Y"]:
        return jax.nn.log_softmax(logits_of(params, prompts.tokens[:, 0]))

    def sample(key, params, prompts, n) -> Response:
        logp = log_probs(params, prompts)
        u = uniforms(key, logp.shape[0], n, 1)[..., 0]
        y = inverse_cdf(u, jnp.broadcast_to(logp[:, None], (*u.shape, logp.shape[-1])))
        seen = jnp.take_along_axis(logp, y, axis=1)
        return Response(y[..., None], jnp.ones_like(y), seen)

    def log_prob(params, prompts, response):
        logp = log_probs(params, prompts)
        return jnp.take_along_axis(logp, response.tokens[..., 0], axis=1)

    return Policy(init, sample, log_prob)


def autoregressive_softmax(
    features: Sequence[Float[Array, "X _ V d"]], *, end: int | None = None
) -> Policy:
    """A linear softmax for each position; params are theta [H d].

    features[h][x, c, v] is phi_{h+1} of token v after the prefix c, the number that the
    h tokens before it spell in base V; so prefixes = V^h. With `end` a response stops
    at its first end token, otherwise it always has H tokens.

    Raises ValueError if a feature array has not V^h prefixes.
    """
    horizon = len(features)
    n_prompts, _, vocab, dim = features[0].shape
    for h, phi in enumerate(features):
        if phi.shape != (n_prompts, vocab**h, vocab, dim):
            raise ValueError(
                f"features[{h}]: expected {(n_prompts, vocab**h, vocab, dim)}, "
                f"found {phi.shape}"
            )

    def token_log_probs(theta, x, h, prefix) -> Float[Array, "B n V"]:
        logits = jnp.einsum("bnvd,d->bnv", features[h][x[:, None], prefix], theta[h])
        return jax.nn.log_softmax(logits)

    def at(logp, tokens):
        return jnp.take_along_axis(logp, tokens[..., None], axis=-1)[..., 0]

    def walk(theta, prompts, n, choose):
        """Visit the positions; choose(h, logp [B n V]) gives the tokens [B n]."""
        x = prompts.tokens[:, 0]
        prefix = jnp.zeros((x.shape[0], n), jnp.int32)
        tokens, seen = [], []
        for h in range(horizon):
            logp = token_log_probs(theta, x, h, prefix)
            token = choose(h, logp)
            tokens.append(token)
            seen.append(at(logp, token))
            prefix = prefix * vocab + token
        return jnp.stack(tokens, -1), jnp.stack(seen, -1)

    def sample(key, theta, prompts, n) -> Response:
        u = uniforms(key, prompts.length.shape[0], n, horizon)
        choose = lambda h, logp: inverse_cdf(u[..., h], logp)
        tokens, seen = walk(theta, prompts, n, choose)
        full = jnp.full(tokens.shape[:2], horizon, jnp.int32)
        length = full if end is None else lengths(tokens, (end,))
        response = Response(tokens, length, jnp.zeros_like(seen[..., 0]))
        total = jnp.where(mask(response), seen, 0.0).sum(-1)
        tokens = jnp.where(mask(response), tokens, 0)
        return Response(tokens, length, total)

    def log_prob(theta, prompts, response):
        n = response.length.shape[1]
        choose = lambda h, logp: response.tokens[..., h]
        _, seen = walk(theta, prompts, n, choose)
        return jnp.where(mask(response), seen, 0.0).sum(-1)

    init = lambda key: jax.random.normal(key, (horizon, dim))
    return Policy(init, sample, log_prob)


def all_responses(
    vocab: int, horizon: int, *, end: int | None = None, prompts: int = 1
) -> Response:
    """Every distinct response, as candidates [prompts Y H]: an enumeration of the law.

    Without `end` these are the V^H sequences; with it, each sequence up to its end.
    """
    rows = np.array(list(itertools.product(range(vocab), repeat=horizon)), np.int32)
    length = np.full(len(rows), horizon, np.int32)
    if end is not None:
        length = np.asarray(lengths(jnp.asarray(rows), (end,)))
        rows = np.where(np.arange(horizon) < length[:, None], rows, 0)
        rows, first = np.unique(rows, axis=0, return_index=True)
        length = length[first]
    tile = lambda a: jnp.broadcast_to(a[None], (prompts, *a.shape))
    zeros = jnp.zeros((prompts, len(rows)), jnp.float32)
    return Response(tile(jnp.asarray(rows)), tile(jnp.asarray(length)), zeros)
