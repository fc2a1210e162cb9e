"""Experiments whose runs take no time, in the place of the real ones."""

import matplotlib.pyplot as plt
import reproduce_fakes

from experiments.reproduce import command, report, work
from experiments.reproduce.experiment import Check, Experiment
from experiments.reproduce.work import Run

PROCESS = reproduce_fakes.instead_of(work.process)


def experiment(name, *runs):
    """Reads the lengths of the answers of its runs."""

    def measure(config):
        paths = [config.output_dir / run.name / "answer" for run in runs]
        return {"lengths": [len(path.read_text()) for path in paths]}

    def draw(found):
        figure, axis = plt.subplots(figsize=(2, 1))
        axis.bar(range(len(found["lengths"])), found["lengths"])
        return {f"{name}-lengths": figure}

    return Experiment(
        name=name,
        title=f"the title of {name}",
        paper="",
        runs=lambda config: list(runs),
        measure=measure,
        draw=draw,
        tell=lambda found: f"{len(found['lengths'])} answers",
        judge=lambda found: [Check("answers have letters", None, "none", "no")],
    )


def toy(name, argument="0", *needs):
    return Run(name, ("toy", argument), needs)


SHARED = toy("shared")
FIRST = experiment("first", SHARED, toy("one", "0", SHARED))
SECOND = experiment("second", SHARED, toy("two", "0", SHARED))
BAD = experiment("bad", toy("broken", "fail"))
SLOW = experiment("slow", toy("one"), toy("long", "wait"))


def use(patch, *experiments):
    patch.setattr(command, "EXPERIMENTS", experiments)
    patch.setattr(report, "EXPERIMENTS", experiments)
    patch.setattr(work, "process", PROCESS)


def reproduce(directory, *words):
    return command.main([*words, "--output-dir", str(directory)])


def made_files(directory):
    """What does not say when it was made: numbers and figures."""
    paths = [*directory.glob("results/*.json"), *directory.glob("figures/*")]
    return {p.name: p.read_bytes() for p in paths if ".made." not in p.name}
