"""Ties and the summary on draws from known laws: exact answers."""

import collections
import json
import math

import numpy as np
import pytest
from fabricated_failures import FORMS, LAWS, RIGHT, SURE, TIED, WRONG, N, groups, write

import experiments.reproduce.command  # noqa: F401  (no window: backend Agg)
from experiments.failures import failure_summary, failure_ties, tied_tables
from experiments.failures.cases import searched
from experiments.reproduce.verdicts import sign

plt = failure_ties.plt


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write(tmp_path_factory.mktemp("out"))


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


def test_the_votes_of_all_and_of_two_are_paired_over_prompts(ties, config):
    for cell, case in zip(ties["cells"], searched(config), strict=True):
        last, two = (
            next(v["tied"][0] for v in cell["votes"] if v["k"] == k) for k in (N, 2)
        )
        label = failure_ties.answers(case)
        rows = [failure_ties.tied_over_two(row[None]) for row in label]
        means = [row[0] for row in rows if row is not None and row[0] is not None]
        assert cell["tied_over_two"][0] == pytest.approx(last - two)
        assert np.mean(means) == pytest.approx(last - two) and len(means) == len(label)


def test_pairs_that_differ_by_as_much_leave_no_interval():
    """Marginal intervals overlap where half of the prompts tie always."""
    rows = [[0, 0, 0, 1], [0, 1, 1, 0]] * 20  # ties of two 1/2 and 1, of four 0 and 1
    label = np.array(rows)
    assert [v["tied"][0] for v in failure_ties.votes(label, label * 1.0)] == [
        *(0, 0.75, 0.5)
    ]
    value = failure_ties.tied_over_two(label)
    assert value is not None and value[0] == -0.25
    assert sign(value) is False
    same = failure_ties.tied_over_two(label[:1])
    assert same == [-0.5] * 3


@pytest.mark.parametrize("n", [1, 2])
def test_without_more_votes_than_two_nothing_is_shown(ties, n):
    label = np.array([[0, 1, 2][:n]] * 3)
    cell = {
        "model": "m",
        "task": "t",
        "tied_over_two": failure_ties.tied_over_two(label),
    }
    assert failure_ties.votes(label, label * 0.0)[-1]["k"] == n
    assert cell["tied_over_two"] == (None if n == 1 else [0.0] * 3)
    assert failure_ties.judge(ties | {"cells": [cell]})[1].agrees is None


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
    less, narrow = [-0.4, -0.6, -0.2], [-0.2, -0.39, -0.01]
    outcomes = []
    for values in (
        *([less], [less, [0.0, -0.2, 0.2]], [less, [0.2, 0.1, 0.3]]),
        *([narrow], [narrow, less]),  # of two cells each interval is widened
    ):
        worse["cells"] = [
            {"model": "m", "task": "t", "tied_over_two": value} for value in values
        ]
        first, second = (check.agrees for check in failure_ties.judge(worse))
        assert first is False
        outcomes.append(second)
    assert outcomes == [True, None, False, True, None]


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
    # Of two cells each interval is widened: this one then holds 0.
    edge = [-0.2, -0.39, -0.01]
    assert failure_summary.fails(nothing | {"than_greedy": [edge]})
    assert not failure_summary.fails(nothing | {"than_greedy": [edge, edge]})
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


def test_figures_and_text_need_the_numbers_alone(ties, summary):
    for experiment, numbers in (
        (failure_ties.EXPERIMENT, ties),
        (failure_summary.EXPERIMENT, summary),
    ):
        assert set(experiment.draw(numbers)) == {experiment.name}
        assert experiment.tell(numbers).count("|") > 20
        assert experiment.judge(numbers)
