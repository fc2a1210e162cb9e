"""Wrong modes on draws from known laws: exact answers."""

import itertools
import json

import numpy as np
import pytest
import scipy.stats
from fabricated_failures import (
    LAWS,
    RIGHT,
    SURE,
    TIED,
    UNPROVED,
    WRONG,
    N,
    groups,
    write,
)

import experiments.reproduce.command  # noqa: F401  (no window: backend Agg)
from experiments.failures import failure_modes
from experiments.failures.cases import modes, searched, with_modes
from experiments.reproduce import inference
from experiments.reproduce.config import quick_config
from experiments.reproduce.experiment import folder
from jsharp import files

plt = failure_modes.plt
log_prob = lambda line: line["logprob_base"]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write(tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def found(config):
    return json.loads(json.dumps(failure_modes.findings(config), allow_nan=False))


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_prompts_are_split_by_whether_the_mode_is_right(found):
    cell = found["cells"][0]
    assert cell["prompts"] == 16 and cell["certain"] == 12  # the tied have no one y*
    assert (cell["right"]["prompts"], cell["wrong"]["prompts"]) == (8, 4)
    interval = scipy.stats.binomtest(8, 12).proportion_ci(0.95, "exact")
    assert cell["mode_right"] == pytest.approx([8 / 12, interval.low, interval.high])
    assert cell["greedy_is_mode"][0] == 0.0  # greedy is the second of each law
    assert (cell["above_half"], cell["above_half_and_greedy"]) == (4, 0)


@pytest.mark.parametrize(
    ("side", "some"), [("right", (RIGHT, SURE)), ("wrong", (WRONG,))]
)
def test_curves_by_side_are_by_hand(found, side, some):
    mine = [
        (law, group)
        for (law, _), group in zip(LAWS, groups(LAWS), strict=True)
        if any(law is each for each in some)
    ]
    likeliest = lambda lines: max(lines, key=lambda line: line["logprob_base"])
    shown = found["cells"][0][side]
    for k in range(1, N + 1):
        right = []
        for _, group in mine:
            best = [likeliest(each) for each in itertools.combinations(group, k)]
            right.append(np.mean([line["correct"] for line in best]))
        law_of_mode = np.mean([1 - (1 - max(law.values())) ** k for law, _ in mine])
        assert shown["accuracy"][k - 1][0] == pytest.approx(np.mean(right))
        assert shown["law"][k - 1] == pytest.approx(law_of_mode)


def test_how_often_the_best_is_the_mode_is_counted(found):
    picked = []
    for (law, _), group in zip(LAWS, groups(LAWS), strict=True):
        best = max(group, key=lambda line: line["logprob_base"])
        if law is not TIED:
            picked.append(best["completion"] == max(law, key=law.__getitem__))
    assert found["cells"][0]["best_is_mode"][0] == pytest.approx(np.mean(picked))


def test_a_side_without_prompts_is_left_out(found):
    assert found["cells"][1]["right"] == {"prompts": 0}
    assert "none" in failure_modes.tell(found)


def test_the_law_is_tested_on_the_prompts_of_the_search(found):
    """By hand: best of k of disjoint blocks, every block a coin of its own prompt."""
    cell = found["cells"][0]
    assert cell["searched"] == 11
    sizes = [1, 2, 4, N]
    for name, more in (("law", 0), ("planted", 1)):
        expected = []
        for k in sizes:
            count, law = 0, np.ones(1)
            for i, group in enumerate(groups(LAWS)):
                table = LAWS[i][0]
                if table is TIED or i == UNPROVED:
                    continue
                top = max(table.values())
                for start in range(0, N // k * k, k):
                    best = max(group[start : start + k], key=log_prob)
                    count += table[best["completion"]] == top
                    miss = (1 - top) ** (k + more)
                    law = np.convolve(law, [miss, 1 - miss])
            tail = min(law[: count + 1].sum(), law[count:].sum())
            expected.append(min(1.0, 2 * tail))
        assert cell[name] == pytest.approx(expected)


def test_the_tests_of_the_law_see_a_wrong_choice_and_a_wrong_mass():
    """The draws keep to their law in each; what is chosen of them does not."""
    top = np.linspace(0.1, 0.6, 60)
    is_mode = np.random.default_rng(0).random((60, 32)) < top[:, None]
    right = failure_modes.tests_of_law(is_mode * 1.0, is_mode, top)
    assert min(right["law"]) > 0.01 > 1e-4 > min(right["planted"])
    worst = failure_modes.tests_of_law(-1.0 * is_mode, is_mode, top)
    assert worst["law"][0] == right["law"][0] and max(worst["law"][1:]) < 1e-4
    assert (
        min(failure_modes.tests_of_law(is_mode * 1.0, is_mode, top / 2)["law"]) < 1e-4
    )
    none = failure_modes.tests_of_law(np.zeros((0, 4)), is_mode[:0, :4], np.zeros(0))
    assert none == {"law": [], "planted": []}


def test_modes_of_other_prompts_are_refused(config, tmp_path):
    some = with_modes(config)[0]
    cell = inference.cells(some)[0]
    path = folder(some, modes(some, cell.model, cell.task)) / "modes.jsonl"
    lines = list(files.read_lines(path))
    try:
        files.write_lines(path, lines[::-1])
        with pytest.raises(ValueError, match="expected modes of the first prompts"):
            searched(config)
    finally:
        files.write_lines(path, lines)


def _cell(
    right=(0.2, 0.1, 0.3),
    wrong=(-0.2, -0.3, -0.1),
    law=(0.5, 0.9),
    planted=(0.3, 1e-9),
    above=(10, 10),
):
    return {
        "model": "m",
        "task": "t",
        "searched": 3,
        "right": {"change": right},
        "wrong": {"change": wrong},
        "law": law,
        "planted": planted,
        "above_half": above[0],
        "above_half_and_greedy": above[1],
    }


@pytest.mark.parametrize(
    ("cells", "agrees"),
    [
        ([_cell()], [True] * 4),
        ([_cell(), _cell(right=(0.0, -0.1, 0.1))], [None, True, True, True]),
        ([_cell(), _cell(right=(-0.2, -0.3, -0.1))], [False, True, True, True]),
        ([_cell(wrong=(0.2, 0.1, 0.3))], [True, False, True, True]),
        # Of two cells each interval is widened: this one then holds 0.
        ([_cell(right=(0.2, 0.01, 0.39))], [True] * 4),
        ([_cell(), _cell(right=(0.2, 0.01, 0.39))], [None, True, True, True]),
        ([_cell(), _cell(wrong=(-0.2, -0.39, -0.01))], [True, None, True, True]),
        # The level of a test is 0.01 over those of all cells.
        ([_cell(law=(0.5, 0.004))], [True, True, False, True]),
        ([_cell(law=(0.5, 0.004)), _cell()], [True] * 4),
        ([_cell(law=(0.5, 0.002)), _cell()], [True, True, False, True]),
        ([_cell(planted=(0.3, 0.01))], [True, True, None, True]),
        ([_cell(), _cell(planted=(0.3, 0.01))], [True, True, None, True]),
        ([_cell(law=(0.0, 1), planted=(0.3, 1))], [True, True, False, True]),
        ([_cell(law=(), planted=())], [True, True, None, True]),
        # Ten prompts show Prop 3.1, one refutes it.
        ([_cell(above=(1, 1))], [True, True, True, None]),
        ([_cell(above=(4, 4)), _cell(above=(6, 6))], [True] * 4),
        ([_cell(above=(2, 1))], [True, True, True, False]),
        ([_cell(above=(0, 0))], [True, True, True, None]),
    ],
)
def test_statements_on_modes_follow_from_the_numbers(cells, agrees):
    checks = failure_modes.judge({"cells": cells})
    assert [check.agrees for check in checks] == agrees


def test_a_cell_without_a_certain_mode_is_left_out(config, found):
    case = searched(config)[0]
    nothing = np.zeros(len(case.right), bool)
    known = case.known._replace(searched=nothing, unseen=np.ones(len(nothing)))
    none = failure_modes.of_cell(case._replace(known=known))
    assert (none["certain"], none["law"], none["mode_right"]) == (0, [], None)
    both = found | {"cells": [none, *found["cells"]]}
    assert "No mode is certain of: embedded arithmetic." in failure_modes.tell(both)
    assert set(failure_modes.draw(both)) == {"failure_modes"}
    assert [c.agrees for c in failure_modes.judge({"cells": [none]})] == [None] * 4


def test_figures_and_text_need_the_numbers_alone(found):
    assert set(failure_modes.draw(found)) == {"failure_modes"}
    assert failure_modes.tell(found).count("|") > 20
    assert failure_modes.judge(found)


def test_quick_searches_the_modes_of_what_is_there(tmp_path):
    quick = quick_config(output_dir=tmp_path)
    named = [run.name for run in failure_modes.runs(quick)]
    assert named == [
        f"{kind}/embedded/{task}"
        for task in ("game24", "arithmetic")
        for kind in ("evaluate", "failures/modes")
    ]
    words = failure_modes.runs(quick)[1].words
    assert words[words.index("--limit") + 1] == "12"
