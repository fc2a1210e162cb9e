"""`jsharp train ALGORITHM`: sharpen a language model, in rounds that survive a kill.

    round:  draw -> score under the base -> select -> fit -> evaluate

`output_dir` gets config.json, metrics.jsonl (values that a resumed run repeats to the
byte), speed.jsonl (times), rounds/<r>.draws.jsonl and .examples.jsonl, checkpoints/,
eval/<step>.jsonl and, at the end, adapter/ (PEFT, with LoRA) and hf/ (the whole model).

Batch t is a function of (seed, t) and of the round's examples; a checkpoint holds all
the rest in one commit. So a run that is killed at any instant and started again with
the same command goes on where it was and ends in the same bytes, on the same devices.
"""

import difflib
import signal
import sys
from collections.abc import Sequence
from typing import Any

import tyro

from jsharp import run_directory
from jsharp.preemption import stop_on_signal
from jsharp.train import config as configs
from jsharp.train import rounds, run
from jsharp.train.collect import Interrupted
from jsharp.train.config import ALGORITHMS, PRESETS, Config
from jsharp.train.plan import prepare


def usage() -> str:
    rows = [
        f"  {name:8}  {(kind.__doc__ or '').splitlines()[0]}"
        for name, kind in ALGORITHMS.items()
    ]
    return "\n".join(
        [
            "jsharp train: sharpen a language model",
            "",
            "usage: jsharp train ALGORITHM [--preset paper] [options]",
            "       jsharp train ALGORITHM --help explains every option",
            "",
            *rows,
            "",
            "presets: default, paper (section 5 of the paper: N = 50, rank 16, ...);",
            "options on the command line go before those of the preset.",
        ]
    )


def parse(args: Sequence[str]) -> tuple[str, Config]:
    """The algorithm and its config; SystemExit(2) with a message on a bad line."""
    name, rest = args[0], list(args[1:])
    if name not in ALGORITHMS:
        near = difflib.get_close_matches(name, ALGORITHMS, n=1)
        hint = f"; perhaps you meant {near[0]!r}" if near else ""
        print(
            f"jsharp train: no algorithm {name!r}{hint}\n\n{usage()}", file=sys.stderr
        )
        raise SystemExit(2)
    chosen, rest = _preset(rest)
    kind = ALGORITHMS[name]
    # In front: of an option that comes twice, the last counts.
    preset = configs.preset(chosen, kind).items()
    first = [f"--{k.replace('_', '-')}={value}" for k, value in preset]
    return name, tyro.cli(kind, args=[*first, *rest], prog=f"jsharp train {name}")


def _preset(args: list[str]) -> tuple[str, list[str]]:
    for i, word in enumerate(args):
        flag, equals, value = word.partition("=")
        if flag != "--preset":
            continue
        end = i + 1 if equals else i + 2
        value = value if equals else (args[i + 1 : i + 2] or [""])[0]
        if value not in PRESETS:
            print(
                f"jsharp train: --preset must be one of {', '.join(PRESETS)}, "
                f"found {value!r}",
                file=sys.stderr,
            )
            raise SystemExit(2)
        return value, args[:i] + args[end:]
    return "default", args


def main(args: Sequence[str]) -> int:
    """`jsharp train` on these arguments; the exit status.

    0 done, 1 failed at work, 2 refused before any work, 143 told to stop (130: by
    Ctrl-C).
    """
    if not args or args[0] in ("-h", "--help"):
        print(usage())
        return 0
    name, config = parse(args)
    return train(name, config)


def train(name: str, config: Config) -> int:
    """Train to the end, or until told to stop."""
    status, where = 2, config.output_dir
    try:
        plan = prepare(config)
        identity = plan.identity(name)
        rounds.check_draws(plan)
        again: dict[str, Any] = {
            "resume": config.resume,
            # Of a finished run nothing is left to change.
            "allow_changes": None if run.is_finished(config) else config.allow_changes,
            "fixed": ("algorithm", "steps"),  # else a step would be of another round
        }
        with run_directory.alone(where), stop_on_signal() as stop:
            run_directory.claim(where, identity, **again)
            work = run.load(plan, identity)
            status = 1
            try:
                run.go(work, stop)
            except Interrupted:
                _say(name, f"saved in {where}; the same command goes on")
                return stop.status
    except (ValueError, OSError, FloatingPointError) as error:
        _say(name, error)
        return status
    except KeyboardInterrupt:
        _say(name, f"interrupted; the same command goes on where {where} was saved")
        return 128 + signal.SIGINT
    return 0


def _say(name: str, message: Any) -> None:
    print(f"jsharp train {name}: {message}", file=sys.stderr)
