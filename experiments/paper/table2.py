"""Table 2: hyper-parameters of SFT-Sharpening, of App A.3 beside those here."""

from typing import Any, NamedTuple

from matplotlib.figure import Figure

from experiments.reproduce import amortised
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import Check, Experiment, Found, folder
from experiments.reproduce.tables import markdown
from experiments.reproduce.work import Run
from jsharp import files, run_directory
from jsharp.lm.draw import Sampling


class Setting(NamedTuple):
    """A field of a run's config.json, and what the paper has for it.

    `paper` is its only or usual value; `parts` those of a part of its runs, as `note`
    says. Both are empty where it is not known here what the paper has.
    """

    field: str
    words: str
    paper: tuple[Any, ...] = ()
    parts: tuple[Any, ...] = ()
    note: str = ""


SETTINGS = (
    Setting("num_generations", "N", (50,)),
    Setting("reward", "self-reward", ("log-probability",)),
    Setting("lora_r", "LoRA rank", (16,), (8,), "Mistral"),
    Setting("lora_alpha", "LoRA alpha (none: twice the rank)"),
    Setting("learning_rate", "learning rate", (3e-4,)),
    Setting("lr_scheduler_type", "its schedule, to zero", ("linear",)),
    Setting("warmup_steps", "warm-up steps"),
    Setting("max_grad_norm", "gradient clip", (0.1,)),
    Setting("weight_decay", "weight decay", (), (0.1, 0.5, 0.0, 1.0), "by task"),
    Setting("batch_size", "batch", (4,), (1,), "a part"),
    Setting("num_train_epochs", "epochs", (30,), (10,), "Mistral"),
    Setting("max_completion_length", "tokens of a response", (512,)),
    Setting("limit", "training prompts"),
    Setting("eval_limit", "held-out prompts in training"),
    Setting("eval_generations", "samples to each of them"),
)
MARKS = {"differs": "**differs**"}


def runs(config: Config) -> list[Run]:
    return amortised.trainings(config, config.trained, config.generations)


def measure(config: Config) -> Found:
    """Each setting: all values of it in the runs' configs, and what the paper has."""
    configs = [
        files.read_json(folder(config, run) / run_directory.CONFIG)
        for run in runs(config)
    ]
    rows = [
        row(setting, [each[setting.field] for each in configs]) for setting in SETTINGS
    ]
    seeds = [len({each["seed"] for each in configs})]
    rows.append(row(Setting("seed", "seeds", (3,)), seeds))
    temperature = Setting("temperature", "temperature of the samples", (1.0,))
    rows.append(row(temperature, [Sampling().temperature]))
    return {"runs": len(configs), "settings": rows}


def row(setting: Setting, values: list[Any]) -> Found:
    """The values, each once, in the order they come, beside the paper's."""
    here = list(dict.fromkeys(values))
    return {
        "field": setting.field,
        "words": setting.words,
        "paper": list(setting.paper),
        "parts": list(setting.parts),
        "note": setting.note,
        "here": here,
        "compared": compared(setting, here),
    }


def compared(setting: Setting, here: list[Any]) -> str:
    """same: the usual value; as in a part: also others of its values; or differs."""
    if not setting.paper + setting.parts:
        return "unknown"
    if here == list(setting.paper):
        return "same"
    known = {*setting.paper, *setting.parts}
    return "as in a part" if known.issuperset(here) else "differs"


def draw(found: Found) -> dict[str, Figure]:
    del found
    return {}


def tell(found: Found) -> str:
    show = lambda values: ", ".join("none" if v is None else str(v) for v in values)
    rows = [
        {
            "setting": each["words"],
            "the paper": show(each["paper"]),
            "in a part of its runs": show(each["parts"])
            + (f" ({each['note']})" if each["note"] else ""),
            "here": show(each["here"]),
            "compared": MARKS.get(each["compared"], each["compared"]),
        }
        for each in found["settings"]
    ]
    return f"{markdown(rows)}\n\nHere: of {found['runs']} runs."


def judge(found: Found) -> list[Check]:
    """None: a choice of settings is no statement."""
    del found
    return []


EXPERIMENT = Experiment(
    name="table2",
    title="hyper-parameters of SFT-Sharpening",
    paper="Table 2",
    runs=runs,
    measure=measure,
    draw=draw,
    tell=tell,
    judge=judge,
)
