"""Every experiment, in the order of the report."""

from experiments.paper import fig3
from experiments.reproduce.experiment import Experiment

EXPERIMENTS: tuple[Experiment, ...] = (fig3.EXPERIMENT,)
