"""Which policies the bridge trains: n, N, delta and budgets, and their commands."""

from typing import NamedTuple

from experiments.bridge import setting
from experiments.reproduce.config import Config
from experiments.reproduce.work import Run


class Trained(NamedTuple):
    """A policy: how it came about, its training run, and the run that judges it."""

    algorithm: str
    n: int  # prompts
    N: int  # responses to each; 0 where it is not one number
    training: Run
    evaluation: Run


def fixed(config: Config) -> list[Trained]:
    """SFT-Sharpening on arithmetic, n x N."""
    sizes, draws = ((8, 16), (2,)) if config.quick else ((64, 256, 1024), (2, 8, 32))
    return [_sft(config, "arithmetic", n, N, 0) for n in sizes for N in draws]


def longer(config: Config) -> list[Trained]:
    """SFT-Sharpening on arithmetic with one N, the same examples, more steps."""
    N, sizes = (2, (8,)) if config.quick else (8, (64, 256, 1024))
    return [_sft(config, "arithmetic", n, N, 0, longer=True) for n in sizes]


class Contest(NamedTuple):
    """Of the adaptive form with fixed N, on the same n prompts of game24.

    Its delta is chosen for a mean of N_mu near N, from the base's responses to 48 of
    the judged prompts: it sets what is spent, and saw no trained policy.
    """

    n: int
    N: int
    delta: float
    seeds: tuple[int, ...]


def contest(config: Config) -> Contest:
    return Contest(8, 4, 0.9, (0,)) if config.quick else Contest(512, 8, 0.75, (0, 1))


def contestants(config: Config) -> list[tuple[Trained, Trained]]:
    """(fixed N, adaptive) of every seed."""
    n, N, delta, seeds = contest(config)
    return [
        (_sft(config, "game24", n, N, s), _ada(config, "game24", n, delta, s))
        for s in seeds
    ]


def budgets(config: Config) -> tuple[int, ...]:
    """m, queries to the base or to the policy."""
    return (32,) if config.quick else (2048, 8192)


class Options(NamedTuple):
    """What the algorithms are given at every budget; n = m over the responses to each.

    Rates and beta of rlhf, xpo and rloo are those of `experiments.sharpening`.
    """

    N: int = 8  # sft, and responses to a prompt of rloo
    delta: float = 0.4  # ada-sft, mu = ln(2/delta)
    mean_draws: float = 15.4  # of it, from the base's responses to 48 judged prompts
    responses: int = 4  # rlhf, in two pairs
    rounds: int = 4  # xpo
    beta: float = 0.5  # rlhf and xpo
    policy_beta: float = 0.05  # rloo


OPTIONS = Options()


def contenders(config: Config) -> list[tuple[int, Trained]]:
    """(m, policy) of each algorithm at each budget, on arithmetic."""
    found = []
    for m in budgets(config):
        some = [_sft(config, "arithmetic", m // OPTIONS.N, OPTIONS.N, 0)]
        some.append(_regression(config, m))
        if not config.quick:
            n = round(m / OPTIONS.mean_draws)
            some.append(_ada(config, "arithmetic", n, OPTIONS.delta, 0))
            some += [_exploration(config, m), _policy_gradient(config, m)]
        found += [(m, one) for one in some]
    return found


def _sft(
    config: Config, task: str, n: int, N: int, seed: int, *, longer: bool = False
) -> Trained:
    run = setting.sft(config, task, n, N, seed, longer=longer)
    return _judged(config, task, run, n, N)


def _ada(config: Config, task: str, n: int, delta: float, seed: int) -> Trained:
    return _judged(config, task, setting.ada_sft(config, task, n, delta, seed), n, 0)


def _regression(config: Config, m: int) -> Trained:
    n = m // OPTIONS.responses
    options = {
        "limit": n,
        "num-generations": OPTIONS.responses,
        "beta": OPTIONS.beta,
        "learning-rate": "5e-5",
        "num-train-epochs": 2,
    }
    run = setting.training(config, "arithmetic", "rlhf", options, 0)
    return _judged(config, "arithmetic", run, n, OPTIONS.responses)


def _exploration(config: Config, m: int) -> Trained:
    options = {
        "limit": m // 2,
        "rounds": OPTIONS.rounds,
        "beta": OPTIONS.beta,
        "learning-rate": "5e-5",
        "num-train-epochs": 1,
    }
    run = setting.training(config, "arithmetic", "xpo", options, 0)
    return _judged(config, "arithmetic", run, m // 2, 2)


def _policy_gradient(config: Config, m: int) -> Trained:
    n = m // OPTIONS.N
    options = {
        "limit": n,
        "num-generations": OPTIONS.N,
        "beta": OPTIONS.policy_beta,
        "learning-rate": "1e-4",
    }
    run = setting.training(config, "arithmetic", "rloo", options, 0)
    return _judged(config, "arithmetic", run, n, OPTIONS.N)


def _judged(config: Config, task: str, run: Run, n: int, N: int) -> Trained:
    return Trained(run.words[1], n, N, run, setting.evaluation(config, task, run))
