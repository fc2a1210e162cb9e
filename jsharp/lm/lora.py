"""Low-rank adapters: a policy whose parameters are a small change of a frozen base.

    W' = W + (alpha / rank) A B,   A [in, rank] normal, B [rank, out] zero

so that the adapted policy is exactly the base until the first update (arXiv
2106.09685). There is one adapter for each projection that the family's files name, as
in PEFT; where our kernel fuses several, each changes its own columns.

Training computes x W + (x A') B' and never the gradient of W (see `attach`): of the 6
operations for each weight and token of full fine-tuning, 4 are left. Sampling merges
once and then costs what the base costs. Adapters are float32 whatever the base is.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jsharp.lm.config import TransformerConfig
from jsharp.lm.layout import Path, Projection, projections
from jsharp.policy import Params, Policy

Adapters = dict[str, dict[str, Array]]  # by module, as "model.layers.0.mlp.down_proj"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Adapted:
    """A kernel and its adapter: rows @ self = rows @ kernel + (rows @ a) @ b.

    A pytree, whose leaves may be anything that jax.tree.map makes of the arrays.
    """

    kernel: Any  # [i o]
    a: Any  # [i k]
    b: Any  # [k o]

    def __rmatmul__(self, rows: Float[Array, "R i"]) -> Float[Array, "R o"]:
        return rows @ self.kernel + (rows @ self.a) @ self.b


def lora(
    policy: Policy,
    config: TransformerConfig,
    params: Params,
    *,
    rank: int,
    alpha: float,
    targets: tuple[str, ...] | None = None,
) -> Policy:
    """The same policy over adapters {"a": A, "b": B} of the projections in `targets`.

    `targets` are names as "q_proj", or longer endings of a module's name; None stands
    for all linear maps of attention and MLP. `params` are closed over: where a program
    is to have them as an argument, call `attach` or `merge` in it. Raises as `init`.
    """
    _check(config, rank, targets)
    given = (config, jax.lax.stop_gradient(params))
    return Policy(
        init=functools.partial(init, config=config, rank=rank, targets=targets),
        sample=lambda key, adapters, prompts, n: policy.sample(
            key, merge(*given, adapters, alpha=alpha), prompts, n
        ),
        log_prob=lambda adapters, prompts, response: policy.log_prob(
            attach(*given, adapters, alpha=alpha), prompts, response
        ),
    )


def init(
    key: Key[Array, ""],
    config: TransformerConfig,
    *,
    rank: int,
    targets: tuple[str, ...] | None = None,
) -> Adapters:
    """Fresh float32 adapters, A normal with variance 1 / in and B zero.

    Raises ValueError where rank is not positive or a target names no projection.
    """
    chosen = _check(config, rank, targets)
    keys = jax.random.split(key, len(chosen))
    return {
        name: _fresh(k, projection, rank)
        for k, (name, projection) in zip(keys, chosen.items(), strict=True)
    }


def _check(
    config: TransformerConfig, rank: int, targets: tuple[str, ...] | None
) -> dict[str, Projection]:
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    return targeted(config, targets)


def attach(
    config: TransformerConfig, params: Params, adapters: Adapters, *, alpha: float
) -> Params:
    """The same tree with an `Adapted` for each adapted kernel, to score and to train.

    What `transformer.merge` makes of it is a decoder whose gradient is that of the
    adapters alone: all of `params` has none, and no product is computed for it.
    In its products an adapter has the type of its kernel. Raises ValueError where an
    adapter names no projection.
    """

    def join(kernel: Array, a: Array, b: Array) -> Adapted:
        return Adapted(kernel, a.astype(kernel.dtype), b.astype(kernel.dtype))

    return _adapt(config, jax.lax.stop_gradient(params), adapters, alpha, join)


def merge(
    config: TransformerConfig, params: Params, adapters: Adapters, *, alpha: float
) -> Params:
    """The full weights W + (alpha / rank) A B, for export or for another policy.

    Summed in float32 and rounded once to the type of W. Raises ValueError where an
    adapter names no projection.
    """

    def join(kernel: Array, a: Array, b: Array) -> Array:
        return (kernel.astype(jnp.float32) + a @ b).astype(kernel.dtype)

    return _adapt(config, params, adapters, alpha, join)


def _adapt(
    config: TransformerConfig,
    params: Params,
    adapters: Adapters,
    alpha: float,
    join: Callable[[Array, Array, Array], Any],
) -> Params:
    """join(W, A', B') for each adapted kernel; A' B' is all of its adapters' change."""
    known = projections(config)
    by_path: dict[Path, list[str]] = {}
    for name in adapters:
        if name not in known:
            raise ValueError(f"{name} is no projection of a {config.model_type}")
        by_path.setdefault(known[name].path, []).append(name)

    def adapt(path: Any, leaf: Array) -> Any:
        names = by_path.get(tuple(step.key for step in path), [])
        if not names:
            return leaf
        pairs = [(adapters[name], known[name].columns) for name in names]
        # One product for the whole kernel: of the A side by side, and of the B one
        # below the other, each in its columns.
        left = [pair["a"] for pair, _ in pairs]
        right = [_spread(*pair, alpha, leaf.shape[1]) for pair in pairs]
        return join(leaf, jnp.concatenate(left, axis=1), jnp.concatenate(right, axis=0))

    return jax.tree_util.tree_map_with_path(adapt, params)


def targeted(
    config: TransformerConfig, targets: tuple[str, ...] | None
) -> dict[str, Projection]:
    """The projections that PEFT's target_modules choose; None stands for all.

    Raises ValueError where a target names none.
    """
    known = projections(config)
    chosen = set(known) if targets is None else set()
    for target in targets or ():
        ending = lambda name, t=target: f".{name}".endswith(f".{t}")
        if not any(map(ending, known)):
            names = sorted({name.rsplit(".", 1)[-1] for name in known})
            raise ValueError(
                f"target {target!r} names no projection of a {config.model_type}, "
                f"which has {', '.join(names)}"
            )
        chosen |= {name for name in known if ending(name)}
    return {name: known[name] for name in known if name in chosen}


def _fresh(key: Key[Array, ""], projection: Projection, rank: int) -> dict[str, Array]:
    inner, outer = projection.inner, len(projection.columns)
    a = jax.random.normal(key, (inner, rank), jnp.float32) * inner**-0.5
    return {"a": a, "b": jnp.zeros((rank, outer), jnp.float32)}


def _spread(
    pair: dict[str, Array], columns: Int[np.ndarray, " out"], alpha: float, outer: int
) -> Float[Array, "r o"]:
    """(alpha / rank) B, each column where the fused kernel has it."""
    rank = len(pair["b"])
    scaled = pair["b"] * (alpha / rank)
    return jnp.zeros((rank, outer), scaled.dtype).at[:, columns].set(scaled)
