"""Low-rank adapters: a policy whose parameters are a small change of a frozen base.

    W' = W + (alpha / rank) A B,   A [in, rank] normal, B [rank, out] zero

so that the adapted policy is exactly the base until the first update (arXiv
2106.09685).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jsharp.policy import Params, Policy

Adapters = dict[str, dict[str, Array]]  # by path of the kernel: {"a": A, "b": B}

TARGETS = ("qkv", "out", "gate_up", "down")


def lora(
    policy: Policy,
    params: Params,
    *,
    rank: int,
    alpha: float,
    targets: tuple[str, ...] = TARGETS,
) -> Policy:
    """The same policy over adapters of the 2-D kernels under the `targets`.

    Raises ValueError where rank is not positive or a target names no kernel.
    """
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    kernels = {
        name: leaf
        for name, leaf in _named(params).items()
        if leaf.ndim == 2 and any(f"['{target}']" in name for target in targets)
    }
    for target in targets:
        if not any(f"['{target}']" in name for name in kernels):
            raise ValueError(f"target {target!r} names no 2-D kernel of params")
    base = jax.lax.stop_gradient(params)

    def init(key: Key[Array, ""]) -> Adapters:
        keys = jax.random.split(key, len(kernels))
        return {
            name: {
                "a": jax.random.normal(k, (leaf.shape[0], rank), leaf.dtype)
                * leaf.shape[0] ** -0.5,
                "b": jnp.zeros((rank, leaf.shape[1]), leaf.dtype),
            }
            for k, (name, leaf) in zip(keys, kernels.items(), strict=True)
        }

    adapted = lambda adapters: merge(base, adapters, alpha=alpha)
    return Policy(
        init=init,
        sample=lambda key, adapters, prompts, n: policy.sample(
            key, adapted(adapters), prompts, n
        ),
        log_prob=lambda adapters, prompts, response: policy.log_prob(
            adapted(adapters), prompts, response
        ),
    )


def merge(params: Params, adapters: Adapters, *, alpha: float) -> Params:
    """The full weights W + (alpha / rank) A B, for export or for another policy."""

    def adapt(path: Any, leaf: Array) -> Array:
        adapter = adapters.get(jax.tree_util.keystr(path))
        if adapter is None:
            return leaf
        change = adapter["a"] @ adapter["b"]
        return leaf + (alpha / adapter["a"].shape[1]) * change

    return jax.tree_util.tree_map_with_path(adapt, params)


def _named(params: Params) -> dict[str, Array]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
