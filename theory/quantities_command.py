"""`jsharp quantities FILE`: every quantity of the paper's section 2 for one table."""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from theory.report import DEFINITIONS, Options, report
from theory.table import read_policy, read_table

ROWS_SHOWN = 60  # of each printed table; the rest is counted, and in --json


@dataclass(frozen=True)
class Config:
    """Print the exact quantities of sharpening for a base policy given as a table.

    FILE is .json, such as {"pi": [[0.5, 0.3, 0.2], [0.9, 0.1, 0]], "mu": [0.5, 0.5]},
    or .npz with the same two arrays: pi [X, Y] holds one distribution over responses
    per prompt, mu [X] the distribution of prompts. Anything else is refused, and
    nothing is renormalised. The self-reward is r = log pi (maximum-likelihood
    sharpening).

    Example: jsharp quantities table.json --n 1 8 64 --eps 0.05 --delta 0.1 --json
    """

    file: Annotated[Path, tyro.conf.Positional]
    """The table, .json or .npz, with fields pi [X, Y] and mu [X]."""
    n: tuple[int, ...] = (1, 4, 16, 64)
    """Values of N at which to give the law of best-of-N."""
    eps: float = 0.1
    """Fraction of prompts that may fail, in (0, 1)."""
    delta: float = 0.1
    """Mass that may stay off Y*, in (0, 1); the adaptive law has mu = ln(2/delta)."""
    gamma: float = 0.0
    """Slack of the maximisers Y*_g = {y : pi(y|x) >= (1-g) max pi(.|x)}, in [0, 1).

    Above 0 the threshold gives way by 1e-12 of itself, as products are rounded.
    """
    p: float = 1.0
    """Exponent of C_cov,g,p, at least 1."""
    beta: float = 0.1
    """Strength of the KL term in pi*_beta and J_beta, above 0."""
    class_size: int = 1000
    """|Pi|, the number of policies the fit chooses from."""
    rho: float = 0.05
    """Failure probability of the fit, in (0, 1)."""
    policy: Path | None = None
    """A trained policy pihat to compare: a file with pi of the same shape."""
    json: bool = False
    """Print one JSON object instead; an infinite value is the string "inf"."""


def main(args: list[str]) -> int:
    """Run the command: 0 when done, 2 on bad input with the reason on stderr.

    Usage errors and --help leave by SystemExit, as tyro does it.
    """
    config = tyro.cli(Config, args=args, prog="jsharp quantities")
    try:
        options = _options(config)
        base = read_table(config.file)
        pihat = None if config.policy is None else read_policy(config.policy, base)
    except ValueError as error:
        print(f"jsharp quantities: {error}", file=sys.stderr)
        return 2
    with jax.enable_x64(True):
        policy = None if pihat is None else jnp.asarray(pihat)
        numbers = report(
            jnp.asarray(base.pi), jnp.asarray(base.mu), options, pihat=policy
        )
    if config.json:
        print(json.dumps(_plain(numbers), indent=2, allow_nan=False))
    else:
        # A number is never cut to fit: a narrow terminal wraps the line instead.
        console = Console(markup=False, highlight=False, width=10_000)
        _show(_plain(numbers), console)
    return 0


def _options(config: Config) -> Options:
    """The options of the report; raises ValueError for the first out of its domain."""
    # Below 1e-12 the counts of the paper leave the range of exact integers.
    inside = lambda value: 1e-12 <= value < 1.0
    valid = {
        "n": (all(1 <= n <= 2**53 for n in config.n), "integers from 1 to 2^53"),
        "eps": (inside(config.eps), "in [1e-12, 1)"),
        "delta": (inside(config.delta), "in [1e-12, 1)"),
        "gamma": (0.0 <= config.gamma < 1.0, "in [0, 1)"),
        "p": (1.0 <= config.p < math.inf, "a finite number of at least 1"),
        "beta": (1e-6 <= config.beta <= 1e6, "in [1e-6, 1e6]"),
        "class_size": (1 <= config.class_size <= 10**300, "from 1 to 1e300"),
        "rho": (inside(config.rho), "in [1e-12, 1)"),
    }
    for name, (holds, expected) in valid.items():
        if not holds:
            option, found = name.replace("_", "-"), getattr(config, name)
            raise ValueError(f"--{option} must be {expected}, found {found}")
    return Options(**{name: getattr(config, name) for name in valid})


def _plain(value: Any) -> Any:
    """Arrays to lists and numbers; JSON has no infinity, so that becomes a string."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, jax.Array | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _number(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_number(item)}" for name, item in value.items())
    if isinstance(value, list):
        return " ".join(map(_number, value))
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _show(numbers: dict[str, Any], console: Console) -> None:
    shape, options = numbers["shape"], numbers["options"]
    console.print(f"X = {shape['X']} prompts, Y = {shape['Y']} responses")
    console.print(_number(options))
    rows = [(key, _number(numbers[key]), DEFINITIONS[key]) for key in DEFINITIONS]
    _print_rows(console, "Quantities", ("", "value", "definition"), rows)
    fractions = [
        (name, _number(value))
        for name, value in _by_law(numbers["sharpened_fraction"]).items()
    ]
    columns = ("law", "P_mu[law(Y*_g|x) >= 1-delta]")
    _print_rows(console, "Sharpened fraction", columns, fractions)
    if "pihat" in numbers:
        rows = [(key, _number(value)) for key, value in numbers["pihat"].items()]
        _print_rows(console, "pihat", ("", "value"), rows)
    per_prompt = {"mu": numbers["mu"], **numbers["per_prompt"]}
    rows = [
        (str(x), *map(_number, row))
        for x, row in enumerate(zip(*per_prompt.values(), strict=True))
    ]
    _print_rows(console, "Prompts", ("x", *per_prompt), rows)
    _print_rows(console, "Laws", *_laws(numbers))


def _by_law(numbers: dict[str, Any]) -> dict[str, Any]:
    """What `numbers` says of each law, in the order of the printed columns."""
    best_of_n = {f"pi_BoN {n}": value for n, value in numbers["pi_BoN"].items()}
    rest = {name: numbers[name] for name in ("pi", "pi_star_beta", "pi_AdaBoN")}
    return rest | best_of_n


def _laws(numbers: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """One row per prompt and response, one column per law."""
    laws = _by_law(numbers)
    pairs = np.ndindex(numbers["shape"]["X"], numbers["shape"]["Y"])
    rows = [
        (str(x), str(y), *(_number(law[x][y]) for law in laws.values()))
        for x, y in pairs
    ]
    return ("x", "y", *laws), rows


def _print_rows(
    console: Console,
    title: str,
    columns: tuple[str, ...],
    rows: list[tuple[str, ...]],
) -> None:
    left_out = len(rows) - ROWS_SHOWN
    caption = f"{left_out} more rows: see --json" if left_out > 0 else None
    table = Table(title=title, caption=caption, title_justify="left", box=box.SIMPLE)
    for column in columns:
        table.add_column(column, justify="left" if column == "definition" else "right")
    for row in rows[:ROWS_SHOWN]:
        table.add_row(*row)
    console.print(table)
