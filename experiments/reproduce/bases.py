"""The base models: three sizes on one recipe, and one that answers in two forms.

Their recipes are all of `jsharp pretrain`; the weights are made where they are needed
and are not in the repository.
"""

from pathlib import Path

from experiments.reproduce.work import Run
from jsharp.lm import embedded, huggingface

_EVALUATED = ("--save-steps", "500", "--logging-steps", "50", "--num-generations", "4")
_RECIPE = (
    *("pretrain", "--tasks", "game24", "arithmetic", "prontoqa"),
    *("--weights", "0.65", "0.13", "0.22", "--max-steps", "4000"),
    *("--warmup-steps", "100", "--eval-steps", "1000", "--eval-prompts", "32"),
    *_EVALUATED,
)


def _size(hidden: int, layers: int, heads: int, mlp: int, rate: str) -> tuple[str, ...]:
    sizes = {
        "hidden-size": hidden,
        "num-hidden-layers": layers,
        "num-attention-heads": heads,
        "intermediate-size": mlp,
        "learning-rate": rate,
    }
    return tuple(word for k, v in sizes.items() for word in (f"--{k}", str(v)))


RECIPES: dict[str, tuple[str, ...]] = {
    "small": (*_RECIPE, *_size(64, 2, 2, 176, "3e-3")),
    "medium": (*_RECIPE, *_size(128, 4, 4, 352, "2e-3")),
    "large": (*_RECIPE, *_size(256, 6, 8, 688, "1e-3")),
    "shortcut": (
        *("pretrain", "--tasks", "arithmetic", "sums", "--weights", "0.6", "0.4"),
        *("--max-steps", "2000", "--warmup-steps", "100", "--eval-steps", "500"),
        *("--eval-prompts", "32", *_EVALUATED, *_size(96, 3, 3, 264, "2e-3")),
    ),
}
# What the tokenizer of a model that is made here, or inside jsharp, has words for.
_KNOWN = {
    "embedded": ("game24", "arithmetic"),
    "shortcut": ("arithmetic", "sums"),
    **dict.fromkeys(("small", "medium", "large"), ("game24", "arithmetic", "prontoqa")),
}


def named(model: str) -> tuple[str, str]:
    """(name, checkpoint) of an element of --models, as the commands are given it.

    The checkpoint of a base that is made here is relative to the output directory.
    Raises ValueError where there is no such model.
    """
    name, equals, path = model.partition("=")
    if equals:
        if not (Path(path) / "config.json").is_file():
            raise ValueError(f"--models: {name}: no checkpoint in {path!r}")
        return name, str(Path(path).resolve())
    if name == "embedded":
        return name, name
    if name in RECIPES:
        return name, f"pretrain/{name}/hf"
    raise ValueError(
        f"--models: expected embedded, {', '.join(RECIPES)} or NAME=DIRECTORY, "
        f"found {model!r}"
    )


def check(model: str, room: int) -> None:
    """Refuse a checkpoint that `jsharp evaluate` would; no weight is read.

    Raises ValueError where it cannot be loaded, and where its positions leave no prompt
    behind `room` tokens of a response. A base that is made here has none yet to check.
    """
    name, path = named(model)
    if name in RECIPES:
        return
    directory = embedded.directory() if name == "embedded" else Path(path)
    try:
        length = huggingface.check(directory).context_length
    except (ValueError, OSError) as error:
        raise ValueError(f"--models: {name}: {error}") from error
    if length <= room:
        raise ValueError(
            f"--max-completion-length: expected room for a prompt in the {length} "
            f"positions of {name}, found {room}"
        )


def knows(name: str, task: str) -> bool:
    return name not in _KNOWN or task in _KNOWN[name]


def made(name: str) -> tuple[Run, ...]:
    """The run that makes the base of this name; none for one that is there."""
    if name not in RECIPES:
        return ()
    return (Run(f"pretrain/{name}", RECIPES[name]),)
