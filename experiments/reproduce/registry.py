"""Every experiment, in the order of the report."""

from experiments.bridge import (
    bridge_adaptive,
    bridge_algorithms,
    bridge_base,
    bridge_sft,
)
from experiments.failures import (
    failure_length,
    failure_modes,
    failure_summary,
    failure_ties,
    failure_training,
)
from experiments.paper import (
    fig1,
    fig2,
    fig3,
    fig4,
    fig5,
    fig6,
    fig7,
    fig8,
    fig9,
    table1,
    table2,
)
from experiments.reproduce.experiment import Experiment

_PAPER = (fig1, fig2, fig3, fig4, fig5, fig6, fig7, fig8, fig9, table1, table2)
_BRIDGE = (bridge_base, bridge_sft, bridge_adaptive, bridge_algorithms)
_FAILURES = (
    *(failure_length, failure_training, failure_modes, failure_ties),
    failure_summary,
)

EXPERIMENTS: tuple[Experiment, ...] = tuple(
    module.EXPERIMENT for module in (*_PAPER, *_BRIDGE, *_FAILURES)
)
