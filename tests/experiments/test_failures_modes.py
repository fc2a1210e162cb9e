"""Wrong modes, ties and the summary on draws from known laws: exact answers."""

import collections
import itertools
import json
import math

import fabricated_draws as fabricated
import numpy as np
import pytest
import scipy.stats

import experiments.reproduce.command  # noqa: F401  (no window: backend Agg)
from experiments.failures import (
    failure_modes,
    failure_summary,
    failure_ties,
    tied_tables,
)
from experiments.failures.cases import modes, searched, with_modes
from experiments.reproduce import inference
from experiments.reproduce.config import Config, resolve
from experiments.reproduce.experiment import folder
from jsharp import files

plt = failure_modes.plt
N = 6
RIGHT = {"1+2=3": 0.5, "2+1=3": 0.3, "1+2=4": 0.2}
WRONG = {"1+2=4": 0.45, "1+2=3": 0.25, "2+1=3": 0.2, "2+1=5": 0.1}
SURE = {"1+2=3": 0.8, "1+2=4": 0.2}
TIED = {"1+2=3": 0.4, "2+1=4": 0.4, "1+2=5": 0.2}
LAWS = [(law, "3") for law in (RIGHT, WRONG, SURE, TIED)] * 4
FORMS = [({"4": 0.6, "1+2=3": 0.25, "2+1=3": 0.15}, "3")] * 8


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = Config(
        names=(),
        output_dir=tmp_path_factory.mktemp("out"),
        models=("embedded",),
        tasks=("arithmetic",),
        generations=N,
    )
    for some, laws in zip(with_modes(config), (LAWS, FORMS), strict=True):
        ((model, task),) = some.settings()
        answered = folder(some, inference.evaluation(some, model, task))
        fabricated.write(
            answered / "responses.jsonl", fabricated.draws(laws, N, seed=5)
        )
        path = folder(some, modes(some, model, task)) / "modes.jsonl"
        path.parent.mkdir(parents=True)
        files.write_lines(path, fabricated.modes(laws))
    return config


@pytest.fixture(scope="module")
def found(config):
    return json.loads(json.dumps(failure_modes.findings(config), allow_nan=False))


@pytest.fixture(scope="module")
def ties(config):
    return json.loads(json.dumps(failure_ties.findings(config), allow_nan=False))


@pytest.fixture(scope="module")
def summary(config):
    return json.loads(json.dumps(failure_summary.findings(config), allow_nan=False))


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def groups(laws):
    return [group[1:] for group in fabricated.draws(laws, N, seed=5)]


def test_prompts_are_split_by_whether_the_mode_is_right(found):
    cell = found["cells"][0]
    assert cell["prompts"] == 16 and cell["proved"] == 12  # the tied have no one y*
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
        right, picked = [], []
        for law, group in mine:
            best = [likeliest(each) for each in itertools.combinations(group, k)]
            mode = max(law, key=law.__getitem__)
            right.append(np.mean([line["correct"] for line in best]))
            picked.append(np.mean([line["completion"] == mode for line in best]))
        law_of_mode = np.mean([1 - (1 - max(law.values())) ** k for law, _ in mine])
        assert shown["accuracy"][k - 1][0] == pytest.approx(np.mean(right))
        assert shown["picked"][k - 1][0] == pytest.approx(np.mean(picked))
        assert shown["law"][k - 1] == pytest.approx(law_of_mode)


def test_accuracy_keeps_to_the_bounds_of_the_picks(found):
    """y* right: accuracy >= P[picked]; wrong: accuracy <= 1 - P[picked]."""
    for cell in found["cells"]:
        for side in ("right", "wrong"):
            if not cell[side]["prompts"]:
                continue
            accuracy = np.array([a[0] for a in cell[side]["accuracy"]])
            picked = np.array([a[0] for a in cell[side]["picked"]])
            room = accuracy - picked if side == "right" else 1 - picked - accuracy
            assert (room > -1e-9).all()


def test_a_side_without_prompts_is_left_out(found):
    assert found["cells"][1]["right"] == {"prompts": 0}
    assert "none" in failure_modes.tell(found)


def test_the_test_of_the_law_is_the_binomial_one():
    drawn = np.array([[1, 1, 0, 0, 0, 1, 0, 0, 0, 0]], bool)
    law = scipy.stats.binom(10, 0.1)
    expected = min(1.0, 2 * min(law.cdf(3), law.sf(2)))
    assert failure_modes.law_p_value(drawn, np.array([0.1])) == pytest.approx(expected)
    few = failure_modes.law_p_value(drawn & False, np.array([0.5]))
    assert few == pytest.approx(2 * 0.5**10)
    two = np.concatenate([drawn, ~drawn])
    both = failure_modes.law_p_value(two, np.array([0.3, 0.7]))
    assert both is not None and both > 0.5
    assert failure_modes.law_p_value(drawn[:0], np.zeros(0)) is None


def test_the_test_of_the_law_sees_a_wrong_probability(config):
    case = searched(config)[0]
    top = case.known.mass[case.sure, 0]
    right = failure_modes.law_p_value(case.is_mode[case.sure], top)
    wrong = failure_modes.law_p_value(case.is_mode[case.sure], top / 3)
    assert right is not None and wrong is not None
    assert right > 0.01 > 1e-4 > wrong


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


def _cell(right=(0.2, 0.1, 0.3), wrong=(-0.2, -0.3, -0.1), p=0.5, above=(2, 2)):
    return {
        "model": "m",
        "task": "t",
        "right": {"change": right},
        "wrong": {"change": wrong},
        "law_p_value": p,
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
        ([_cell(p=0.001)], [True, True, False, True]),
        ([_cell(above=(2, 1))], [True, True, True, False]),
        ([_cell(above=(0, 0), p=None)], [True, True, None, None]),
    ],
)
def test_statements_on_modes_follow_from_the_numbers(cells, agrees):
    checks = failure_modes.judge({"cells": cells})
    assert [check.agrees for check in checks] == agrees


# ---- Ties


def test_exact_ties_are_the_closed_forms(ties):
    mu, q = math.log(2 / tied_tables.DELTA), tied_tables.TOP
    for row in ties["exact"]:
        m = row["count"]
        assert row["mass"] == pytest.approx([1 - (1 - m * q) ** n for n in row["n"]])
        assert row["largest"][-1] == pytest.approx(row["mass"][-1] / m)
        assert row["coverage"] == pytest.approx(1 / (m * q))
        rest = (1 - m * q) / tied_tables.RIVALS
        first, last = math.ceil(mu / q), math.ceil(mu / rest)
        mean = first + sum((1 - m * q) ** k for k in range(first, last))
        assert row["mean_draws"] == pytest.approx(mean)
        assert row["missed"] == pytest.approx((1 - m * q) ** last, abs=1e-30)
        least = row["least_n"]
        assert (1 - m * q) ** least <= tied_tables.DELTA < (1 - m * q) ** (least - 1)


def test_near_ties_are_the_closed_forms(ties):
    q, beta = tied_tables.TOP, tied_tables.BETA
    rows = {row["margin"]: row for row in ties["near"]}
    assert rows[0.0]["maximisers"] == 12 and rows[1e-3]["maximisers"] == 1
    for margin, row in rows.items():
        near = q * (1 + 11 * math.exp(-margin))
        top = near if margin == 0 else q
        close = near if margin < math.log(2) else q
        assert row["few"] == pytest.approx(1 - (1 - top) ** 16)
        assert row["few_near"] == pytest.approx(1 - (1 - close) ** 16)
        rest = (1 - near) / tied_tables.RIVALS
        power = 1 + 1 / beta
        weights = [1, 11 * math.exp(-margin * power)]
        weights.append(tied_tables.RIVALS * (rest / q) ** power)
        assert row["tilted"] == pytest.approx(1 / sum(weights))


def test_a_table_whose_rivals_are_as_likely_is_refused():
    with pytest.raises(ValueError, match="expected less likely rivals"):
        tied_tables.tied(12, margin=5.0)


def _votes(laws, k):
    """Tied, shared, lucky and unlucky of disjoint groups of k, by counting."""
    rows = []
    for group in groups(laws):
        each = []
        for start in range(0, N // k * k, k):
            lines = [x for x in group[start : start + k] if x["answer"] is not None]
            count = collections.Counter(line["answer"] for line in lines)
            most = [a for a, c in count.items() if c == max(count.values())]
            marks = [a == "3" for a in most] or [False]
            each.append((len(most) > 1, np.mean(marks), max(marks), min(marks)))
        rows.append(np.mean(np.array(each, float), axis=0))
    return np.mean(rows, axis=0)


def test_votes_are_counted_by_hand(ties):
    for cell, laws in zip(ties["cells"], (LAWS, FORMS), strict=True):
        assert [each["k"] for each in cell["votes"]] == [1, 2, 4, 6]
        for each in cell["votes"]:
            shown = [each[x][0] for x in ("tied", "shared", "lucky", "unlucky")]
            assert shown == pytest.approx(list(_votes(laws, each["k"])))


def test_a_vote_without_answers_is_wrong_and_no_tie():
    label, right = np.full((1, 4), -1), np.ones((1, 4))
    last = failure_ties.votes(label, right)[-1]
    assert [last[x][0] for x in ("tied", "shared", "lucky", "unlucky")] == [0] * 4


def test_margins_and_near_maximisers_bound_the_laws(ties):
    cell = ties["cells"][0]
    assert cell["exact_ties"] == 4
    ranked = [sorted(law.values(), reverse=True) for law, _ in LAWS]
    margin = np.sort([math.log(top[0] / top[1]) for top in ranked])
    low, high = (
        np.array([np.inf if x is None else x for x in cell["margin"][end]])
        for end in ("low", "high")
    )
    assert (low <= margin + 1e-3).all() and (margin <= high + 1e-3).all()
    for i, gamma in enumerate(cell["gamma"]):
        mass = [
            sum(p for p in top if p >= (1 - gamma) * top[0] - 1e-9) for top in ranked
        ]
        assert cell["mass"]["low"][i] <= np.mean(mass) + 1e-3
        assert np.mean(mass) <= cell["mass"]["high"][i] + 1e-3


def test_ties_are_judged_by_their_numbers(ties):
    assert failure_ties.judge(ties)[0].agrees is True
    worse = json.loads(json.dumps(ties))
    worse["exact"][1]["missed"] = 1.0
    votes = [{"tied": [0.0, 0.0, 0.0]}, {"tied": [0.5, 0.4, 0.6]}]
    worse["cells"] = [{"model": "m", "task": "t", "votes": votes}]
    outcomes = []
    for last in ([0.1, 0.0, 0.2], [0.5, 0.3, 0.7], [0.9, 0.8, 1.0]):
        worse["cells"][0]["votes"] = [*votes, {"tied": last}]
        outcomes.append([check.agrees for check in failure_ties.judge(worse)])
    assert outcomes == [[False, True], [False, None], [False, False]]


# ---- The summary


def test_the_summary_pools_the_prompts_of_all_searched_cells(summary):
    gains, laws = [], [*LAWS, *FORMS]
    for group in groups(LAWS) + groups(FORMS):
        best = max(group, key=lambda line: line["logprob_base"])
        gains.append(best["correct"] - np.mean([x["correct"] for x in group]))
    side = lambda some: np.mean(
        [g for g, (law, _) in zip(gains, laws, strict=True) if law in some]
    )
    shown = summary["rewards"]["log-probability"]
    assert shown["mode_wrong"][0] == pytest.approx(side([WRONG, FORMS[0][0]]))
    assert shown["mode_right"][0] == pytest.approx(side([RIGHT, SURE]))
    coin = [
        law is TIED
        and {x["correct"] for x in g if x["completion"] != "1+2=5"} == {True, False}
        for g, (law, _) in zip(groups(LAWS) + groups(FORMS), laws, strict=True)
    ]
    assert shown["coin"][0] == pytest.approx(np.mean(coin)) and any(coin)


def test_failures_in_words_follow_from_the_intervals():
    nothing = {
        "longer": [[0.0, -1.0, 1.0]],
        "than_greedy": [[0.0, -1.0, 1.0]],
        "auc": [[0.5, 0.4, 0.6], None],
        "over_form_of_sample": None,
        "mode_wrong": [0.0, -1.0, 1.0],
    }
    below = [-0.5, -0.6, -0.4]
    assert failure_summary.fails(nothing) == []
    for change, words in (
        ({"longer": [below]}, "picks the short"),
        ({"longer": [[0.5, 0.4, 0.6]]}, "picks the long"),
        ({"over_form_of_sample": below}, "picks the wrong form"),
        ({"mode_wrong": below}, "is drawn to wrong modes"),
        ({"auc": [[0.3, 0.2, 0.4]]}, "ranks wrong above right"),
        ({"than_greedy": [below, [0.5, 0.4, 0.6]]}, "is worse than greedy"),
    ):
        assert failure_summary.fails(nothing | change) == [words]


@pytest.mark.parametrize(
    ("majority", "likelihood", "agrees"),
    [(1, -1, True), (1, 0, None), (0, -1, None), (-1, -1, False), (1, 1, False)],
)
def test_the_summary_is_judged_by_both_rewards(majority, likelihood, agrees):
    ends = lambda x: {"mode_wrong": [x, x - 0.5, x + 0.5]}
    rewards = {"log-probability": ends(likelihood), "majority": ends(majority)}
    (check,) = failure_summary.judge({"rewards": rewards})
    assert check.agrees is agrees


def test_figures_and_text_need_the_numbers_alone(found, ties, summary):
    for experiment, numbers in (
        (failure_modes.EXPERIMENT, found),
        (failure_ties.EXPERIMENT, ties),
        (failure_summary.EXPERIMENT, summary),
    ):
        assert set(experiment.draw(numbers)) == {experiment.name}
        assert experiment.tell(numbers).count("|") > 20
        assert experiment.judge(numbers)


def test_quick_searches_the_modes_of_what_is_there(tmp_path):
    quick = resolve(Config(names=(), quick=True, output_dir=tmp_path))
    named = [run.name for run in failure_modes.runs(quick)]
    assert named == [
        f"{kind}/embedded/{task}"
        for task in ("game24", "arithmetic")
        for kind in ("evaluate", "failures/modes")
    ]
    words = failure_modes.runs(quick)[1].words
    assert words[words.index("--limit") + 1] == "12"
