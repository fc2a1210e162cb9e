"""The front door: `jsharp COMMAND ...`. Each command lives beside the code it runs."""

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from jsharp import heap

INTERRUPTED = 130  # the status of a command stopped by Ctrl-C

COMMANDS = {
    "demo": ("experiments.demo", "the whole story on real input, in three minutes"),
    "verify": ("theory.verify", "check the paper's claims numerically"),
    "curves": (
        "experiments.curves.command",
        "sample-complexity curves: theory beside measurement",
    ),
    "reproduce": (
        "experiments.reproduce.command",
        "the paper's figures and tables on models trained here, or yours",
    ),
    "quantities": (
        "theory.quantities_command",
        "every quantity of the paper for a table of yours",
    ),
    "sample": ("jsharp.commands.sample", "responses to a file of prompts, resumable"),
    "score": ("jsharp.commands.score", "log-probabilities of given responses"),
    "mode": (
        "jsharp.commands.mode",
        "the most likely response to each prompt, with a certificate",
    ),
    "convert": ("jsharp.commands.convert", "a checkpoint in another dtype or sharding"),
    "train": (
        "jsharp.train.command",
        "sharpen a language model: sft, ada-sft, rlhf, xpo, rloo",
    ),
    "evaluate": (
        "jsharp.commands.evaluate",
        "greedy, best-of-k, majority, coverage of a model; compare two",
    ),
    "diagnose": (
        "theory.diagnose_command",
        "what sharpening can do for a model, before it is done",
    ),
    "pretrain": ("jsharp.pretrain.command", "train a small base model from scratch"),
}


def usage() -> str:
    width = max(map(len, COMMANDS))
    rows = [f"  {name:{width}}  {what}" for name, (_, what) in COMMANDS.items()]
    return "\n".join(
        [
            "jsharp: sharpening, the paper running (arXiv 2412.01951)",
            "",
            "usage: jsharp COMMAND [options]      jsharp COMMAND --help explains each",
            "",
            *rows,
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status, 2 where the command is unknown."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    name, rest = argv[0], argv[1:]
    if name == "--version":
        print(f"jsharp {version('jsharp')}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; perhaps you meant {near[0]!r}" if near else ""
        print(f"jsharp: no command {name!r}{hint}\n\n{usage()}", file=sys.stderr)
        return 2
    module = importlib.import_module(COMMANDS[name][0])
    return module.main(rest)


def entry() -> None:
    """The console script."""
    if sys.argv[1:2] in (["train"], ["pretrain"]):
        heap.keep_freed_memory()  # before XLA has threads
    status = main()
    if status == INTERRUPTED:
        # A thread of XLA that still compiles would crash an orderly exit.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
