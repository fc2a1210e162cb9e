"""jsharp's sides of the engine's benchmark, and the limits measured with jax."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.engine_goals import TRAINING
from experiments.benchmarks.engine_model import (
    ALPHA,
    BETA,
    RANK,
    RATE,
    Size,
    step_shape,
    texts,
    transformer_config,
)
from experiments.benchmarks.engine_side import ADAPTER, Job, Memory, Side, host_memory
from jsharp import loss
from jsharp.heap import keep_freed_memory
from jsharp.lm import huggingface, lora, peft
from jsharp.lm.language_model import transformer_policy
from jsharp.policy import Params, Policy, Prompts, Response


def batch(size: Size, seed: int, *, prompts: int, n: int) -> tuple[Prompts, Response]:
    """The texts as prompts and their full-length responses."""
    both = texts(size, seed, prompts=prompts, n=n).reshape(prompts, n, -1)
    full = lambda *shape: jnp.full(shape, size.prompt, jnp.int32)
    x = Prompts(jnp.asarray(both[:, 0, : size.prompt]), full(prompts))
    tokens = jnp.asarray(both[..., size.prompt :])
    length = jnp.full((prompts, n), size.horizon, jnp.int32)
    return x, Response(tokens, length, jnp.zeros((prompts, n), jnp.float32))


def policy_of(config: Any, size: Size) -> Policy:
    """Nothing ends a response, so that every side draws as many tokens."""
    return transformer_policy(config, horizon=size.horizon, end=(), pad=0)


def sampling(policy: Policy, params: Params, job: Job) -> Side:
    size, found = job.size, {}
    prompts, _ = batch(size, job.seed, prompts=size.sampled_prompts, n=1)

    def draw(i, params, prompts):
        key = jax.random.fold_in(jax.random.key(job.seed), i)
        return policy.sample(key, params, prompts, size.n)

    program = jax.jit(draw).lower(0, params, prompts).compile()

    def run(i: int) -> None:
        found["last"] = jax.block_until_ready(program(i, params, prompts))

    def check() -> list[float]:
        """The largest distance of a row's log-prob from the teacher-forced one."""
        few = Prompts(*(a[:1] for a in prompts))
        response = jax.tree.map(lambda a: a[:1], found["last"])
        again = jax.jit(policy.log_prob)(params, few, response)
        gap = jnp.abs(again - response.sampler_log_prob)
        return [float(gap.max() / size.horizon)]

    return Side(run, check, program.as_text() or "")


def scoring(
    policy: Policy, params: Params, job: Job, *, shared: bool, gradient: bool
) -> Side:
    size, found = job.size, {}
    every = texts(size, job.seed, prompts=size.prompts, n=size.n)
    prompts, response = batch(size, job.seed, prompts=size.prompts, n=size.n)
    if not shared:
        flat = lambda a: a.reshape(-1, 1, *a.shape[2:])
        length = jnp.repeat(prompts.length, size.n)
        prompts = Prompts(jnp.asarray(every[:, : size.prompt]), length)
        response = jax.tree.map(flat, response)

    def total(params, prompts, response):
        return policy.log_prob(params, prompts, response).sum()

    data = params, prompts, response
    score = jax.jit(jax.value_and_grad(total) if gradient else total)
    program = score.lower(*data).compile()

    def run(i: int) -> None:
        del i
        found["last"] = jax.block_until_ready(program(*data))

    def check() -> list[float]:
        """Mean log-prob of a token; with gradients, their norm, a token."""
        if not gradient:
            return [float(found["last"]) / response.tokens.size]
        value, grads = found["last"]
        return [
            float(x) / response.tokens.size for x in (value, optax.tree.norm(grads))
        ]

    return Side(run, check, program.as_text() or "")


def pairs(job: Job) -> dict[str, np.ndarray]:
    """The rewards [batch / 2, 2] of the pair loss and the cached reference."""
    rng = np.random.default_rng(job.seed + 1)
    reward = rng.uniform(size=(job.size.batch // 2, 2)).astype(np.float32)
    return {"base_log_prob": job.base_log_prob, "reward": reward}


def training(policy: Policy, params: Params, job: Job, work: str) -> Side:
    size, pair = job.size, work == "pair loss"
    config = transformer_config(size, job.dtype)
    prompts, response = batch(size, job.seed, **step_shape(size, pair=pair))
    extra = jax.tree.map(jnp.asarray, pairs(job)) if pair else {}
    tx = optax.adamw(RATE, weight_decay=0.0)

    def mean_loss(learned, base, prompts, response, extra):
        params = learned
        if base is not None:
            params = lora.attach(config, base, learned, alpha=ALPHA)
        log_prob = policy.log_prob(params, prompts, response)
        if pair:
            return loss.pair_regression(log_prob, **extra, beta=BETA) / len(log_prob)
        return loss.negative_log_likelihood(log_prob) / response.tokens.size

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, *data):
        params, inner = state
        value, grads = jax.value_and_grad(mean_loss)(params, *data)
        updates, inner = tx.update(grads, inner, params)
        return (optax.apply_updates(params, updates), inner), value

    # A copy, because the state is donated and other sides may hold these weights.
    learned, base = jax.tree.map(jnp.copy, params), None
    if work == "LoRA SFT":
        learned, base = (
            peft.load(Path(job.directory) / ADAPTER, config).adapters,
            params,
        )
    found = {"state": (learned, tx.init(learned))}
    data = base, prompts, response, extra
    program = step.lower(found["state"], *data).compile()
    losses: list[float] = []

    def run(i: int) -> None:
        del i
        found["state"], value = program(found["state"], *data)
        losses.append(float(value))
        jax.block_until_ready(found["state"])

    return Side(run, lambda: losses[:2], program.as_text() or "")


def matmul(job: Job) -> Side:
    side = job.size.matmul
    a = jnp.ones((side, side), job.dtype)
    product = jax.jit(jnp.matmul)

    def run(i: int) -> None:
        del i
        jax.block_until_ready(product(a, a))

    return Side(run)


def copying(job: Job) -> Side:
    """Reads and writes each number of a donated buffer."""
    found = {"buffer": jnp.zeros(job.size.copied, jnp.float32)}
    add = jax.jit(lambda x: x + 1, donate_argnums=0)

    def run(i: int) -> None:
        del i
        found["buffer"] = jax.block_until_ready(add(found["buffer"]))

    return Side(run)


def _sides(job: Job) -> Iterator[tuple[str, Callable[[], Side]]]:
    """Every side by name, built when called."""
    yield "limit: jax matmul", lambda: matmul(job)
    yield "limit: copy", lambda: copying(job)

    @functools.cache
    def model() -> tuple[Policy, Params, Job]:
        found = huggingface.load(job.directory)
        return policy_of(found.config, job.size), found.params, job

    yield "jsharp, sampling", lambda: sampling(*model())
    for gradient in (False, True):
        work = "gradient" if gradient else "scoring"
        ways = {"gradient": gradient}
        yield (
            f"jsharp, {work}, prefix shared",
            lambda ways=ways: scoring(*model(), shared=True, **ways),
        )
        yield (
            f"jsharp, {work}, independent",
            lambda ways=ways: scoring(*model(), shared=False, **ways),
        )
    for work in TRAINING:
        yield f"jsharp, {work}", lambda work=work: training(*model(), work)


def build(job: Job) -> dict[str, Side]:
    """The sides that the job names."""
    if set(job.sides) & {f"jsharp, {work}" for work in TRAINING}:
        keep_freed_memory()  # as the trainers do, and before XLA starts its threads
    known = dict(_sides(job))
    return {name: known[name]() for name in job.sides}


def memory() -> Memory:
    """Of the device or, on a CPU, of this process."""
    if jax.default_backend() == "cpu":
        return host_memory()
    stats = jax.devices()[0].memory_stats()
    return Memory(stats["bytes_in_use"], stats["peak_bytes_in_use"])


def prepare(directory: Path, config: Any, size: Size, seed: int) -> None:
    """Random weights and adapters in their files, and the reference of the pairs."""
    policy = policy_of(config, size)
    params = jax.jit(policy.init)(jax.random.key(seed))
    # A checkpoint must name them; no side stops at its end and no text holds its pad.
    last = config.vocab_size - 1
    huggingface.save(directory, config, params, end=(last,), pad=last)
    fresh = lora.lora(policy, config, params, rank=RANK, alpha=ALPHA).init
    adapters = jax.jit(fresh)(jax.random.key(seed))
    peft.save(directory / ADAPTER, config, adapters, alpha=ALPHA)
    x, response = batch(size, seed, **step_shape(size, pair=True))
    base = jax.jit(policy.log_prob)(params, x, response)
    np.save(directory / "base_log_prob.npy", np.asarray(base, np.float32))
