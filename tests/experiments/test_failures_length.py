"""Length bias on fabricated draws: parts that add up, picks by brute force."""

import dataclasses
import itertools
import json

import fabricated_draws as fabricated
import numpy as np
import pytest

import experiments.reproduce.command  # noqa: F401  (no window: backend Agg)
from experiments.failures import failure_length, failure_training
from experiments.failures.cases import (
    chosen,
    every_cell,
    is_short,
    plain_ticks,
    rewards_of,
    short,
    two_forms,
)
from experiments.reproduce import inference
from experiments.reproduce.config import Config, quick_config
from experiments.reproduce.experiment import folder
from experiments.reproduce.work import in_order
from jsharp import files
from jsharp.commands.responses import GREEDY
from jsharp.commands.results import measure

plt = failure_length.plt
N = 5
# "9" is right: at once it is likely and mostly wrong, worked out rare and mostly right.
LAWS = [
    ({"7": 0.4, "9": 0.1, "4+5=9": 0.2, "5+4=9": 0.2, "5+4=8": 0.1}, "9"),
    ({"9": 0.5, "6": 0.2, "4+5=9": 0.1, "2+7=9": 0.1, "?": 0.1}, "9"),
    ({"3": 0.45, "2": 0.25, "9": 0.02, "1+8=9": 0.14, "8+1=9": 0.14}, "9"),
    ({"8": 0.3, "9": 0.2, "3+6=9": 0.25, "6+3=8": 0.25}, "9"),
] * 3
WORKED = [({t: p for t, p in law.items() if "=" in t}, right) for law, right in LAWS]
STRAY = [({"9": 1.0}, "9"), *WORKED[1:]]  # a base that works it out, but for once


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A base of two forms, and one that works it out, but for one prompt."""
    config = Config(
        names=(),
        output_dir=tmp_path_factory.mktemp("out"),
        models=("embedded",),
        tasks=("arithmetic",),
        generations=N,
        seeds=(0, 1),
    )
    for some, laws in ((config, STRAY), (two_forms(config), LAWS)):
        ((model, task),) = some.settings()
        path = folder(some, inference.evaluation(some, model, task))
        fabricated.write(path / "responses.jsonl", fabricated.draws(laws, N, seed=3))
    return config


@pytest.fixture(scope="module")
def found(config):
    return json.loads(json.dumps(failure_length.findings(config), allow_nan=False))


@pytest.fixture(scope="module")
def groups():
    return [group[1:] for group in fabricated.draws(LAWS, N, seed=3)]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def brute(groups, score, value, k=N, among=lambda line: True):
    """Mean over prompts, and over all k of its N draws, of the value of the best."""
    total = []
    for group in groups:
        each = []
        for some in itertools.combinations(group, k):
            some = [line for line in some if among(line)]
            top = max((score(line) for line in some), default=None)
            best = [value(line) for line in some if score(line) == top]
            each.append(np.mean(best) if best else 0.0)
        total.append(np.mean(each))
    return np.array(total)


log_prob = lambda line: np.float32(line["logprob_base"])
normalised = lambda line: log_prob(line) / np.float32(line["num_tokens"])
right = lambda line: float(line["correct"])
is_draw = lambda line: line["sample_id"] != GREEDY
brief = lambda line: float(line["completion"].isdigit())


@pytest.mark.parametrize(
    ("by", "score"), [("log-probability", log_prob), ("length-normalised", normalised)]
)
def test_curves_are_those_of_all_subsets(found, groups, by, score):
    cell = found["forms"]
    curve = cell["curves"][by]
    assert curve["k"] == list(range(1, N + 1))
    fields = {"accuracy": right, "short": brief, "tokens": lambda x: x["num_tokens"]}
    for name, value in fields.items():
        for k, shown in zip(curve["k"], curve[name], strict=True):
            assert shown[0] == pytest.approx(brute(groups, score, value, k).mean())
            assert shown[1] <= shown[0] <= shown[2]


@pytest.mark.parametrize(
    ("by", "score"), [("log-probability", log_prob), ("length-normalised", normalised)]
)
def test_what_is_lost_is_by_hand_and_adds_up(found, groups, by, score):
    cell = found["forms"]
    lost = cell["lost"][by]
    picked = brute(groups, score, right)
    short = brute(groups, score, right, among=brief)
    worked = brute(groups, score, right, among=lambda line: not brief(line))
    oracle = np.maximum(short, worked)
    any_right = np.array([max(map(right, group)) for group in groups])
    share = np.array([np.mean([brief(line) for line in group]) for group in groups])
    expected = {
        "accuracy": picked,
        "short": brute(groups, score, brief),
        "short_over_sample": brute(groups, score, brief) - share,
        "best_short": short,
        "best_worked": worked,
        "within_forms": any_right - oracle,
        "choice_of_form": oracle - picked,
        "over_form_of_sample": picked - share * short - (1 - share) * worked,
    }
    assert {name: value[0] for name, value in lost.items()} == pytest.approx(
        {name: value.mean() for name, value in expected.items()}
    )


def test_the_two_parts_and_the_accuracy_make_the_coverage(found):
    cell = found["forms"]
    assert set(cell["lost"]) == set(cell["curves"]) - {"sample"} and len(cell["lost"])
    for each in cell["lost"].values():
        parts = [each[x][0] for x in ("accuracy", "within_forms", "choice_of_form")]
        assert sum(parts) == pytest.approx(cell["coverage"][0])
        assert min(parts) > -1e-9


def test_forms_of_the_samples(found, groups):
    cell = found["forms"]
    lines = [line for group in groups for line in group]
    for form, holds in (("short", True), ("worked", False)):
        mine = [line for line in lines if bool(brief(line)) is holds]
        shown = cell["samples"][form]
        assert shown["share"][0] == pytest.approx(len(mine) / len(lines))
        assert shown["accuracy"][0] == pytest.approx(np.mean([right(x) for x in mine]))


def test_only_the_base_that_was_built_for_it_has_forms(found, config):
    """A bare number of another base does not give it forms."""
    assert [cell["model"] for cell in found["lengths"]] == ["embedded", "shortcut"]
    assert 0 < short(every_cell(config)[0]).mean() < 1
    assert (found["forms"]["model"], found["forms"]["task"]) == ("shortcut", "sums")
    quick = failure_length.findings(dataclasses.replace(config, quick=True))
    assert [cell["model"] for cell in quick["lengths"]] == ["embedded"]
    assert quick["forms"] is None


def test_a_base_that_never_answers_at_once_still_has_its_forms(config):
    cell = every_cell(config)[1]
    worked = fabricated.draws(WORKED, N, seed=3)
    sampled = cell.sampled._replace(samples=[group[1:] for group in worked])
    one = failure_length.forms(cell._replace(sampled=sampled), measure(sampled))
    assert one["samples"]["short"] == {"share": [0.0] * 3, "accuracy": None}
    assert one["lost"]["log-probability"]["short_over_sample"] == [0.0] * 3
    found = {"level": 0.05, "lengths": [], "forms": one}
    assert failure_length.judge(found)[0].agrees is None
    assert "none are right" in failure_length.tell(found)


def test_lengths_are_paired_with_one_sample_and_with_log_probability(found, groups):
    cell = found["lengths"][1]
    tokens = lambda line: line["num_tokens"]
    one = np.array([np.mean([tokens(line) for line in group]) for group in groups])
    each = cell["rewards"]["length-normalised"]
    longer = brute(groups, normalised, tokens) - one
    better = brute(groups, normalised, right) - brute(groups, log_prob, right)
    greedy = [right(group[0]) for group in fabricated.draws(LAWS, N, seed=3)]
    assert each["longer"][0] == pytest.approx(longer.mean())
    assert each["than_log_probability"][0] == pytest.approx(better.mean())
    assert each["than_greedy"][0] == pytest.approx(
        (brute(groups, normalised, right) - greedy).mean()
    )
    assert cell["rewards"]["log-probability"]["than_log_probability"] == [0, 0, 0]
    assert cell["tokens"][0] == pytest.approx(one.mean())
    over = found["forms"]["over_log_probability"]
    assert list(over) == ["length-normalised", "majority"]
    for by, value in over.items():
        assert value == pytest.approx(cell["rewards"][by]["than_log_probability"])


def test_the_best_of_none_is_worth_nothing():
    score, value = np.array([[1.0, 2.0], [1.0, 1.0]]), np.array([[1.0, 0.0], [1, 0]])
    assert chosen(score, value).tolist() == pytest.approx([0.0, 0.5])
    among = np.array([[True, False], [False, False]])
    assert chosen(score, value, among).tolist() == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize("text", ["", "4+5=9", "9 ", "-9", "٩", "9\n"])
def test_only_a_bare_number_is_short(text):
    assert not is_short(text) and is_short("0") and is_short("156")


def _judged(picks=1, over_form=-1, normalised=1, majority=1):
    """Of a base of two forms whose intervals lie at these values."""
    ends = lambda x: [x, x - 0.1, x + 0.1]
    lost = {"short_over_sample": ends(picks), "over_form_of_sample": ends(over_form)}
    samples = {form: {"accuracy": ends(0.5)} for form in failure_length.FORMS}
    two = {
        "samples": samples,
        "lost": {"log-probability": lost},
        "over_log_probability": {
            "length-normalised": ends(normalised),
            "majority": ends(majority),
        },
    }
    checks = failure_length.judge({"lengths": [], "forms": two})
    assert all("base built" in check.statement for check in checks)
    return [check.agrees for check in checks]


def test_statements_follow_from_the_intervals():
    assert _judged() == [True, True, True]
    assert _judged(picks=-1)[0] is _judged(over_form=1)[0] is False
    assert _judged(picks=0)[0] is _judged(over_form=0)[0] is None
    assert _judged(picks=0, over_form=1)[0] is False
    assert _judged(normalised=-1, majority=0) == [True, False, None]
    assert _judged(normalised=0, majority=-1) == [True, None, False]


def test_without_a_base_of_two_forms_nothing_is_judged(found):
    """Lengths of other bases are judged by fig2 alone."""
    checks = failure_length.judge(found | {"forms": None})
    assert [check.agrees for check in checks] == [None] * 3
    assert {check.evidence for check in checks} == {"no such base here"}


def test_figures_and_text_need_the_numbers_alone(found, config):
    assert set(failure_length.draw(found)) == {"failure_length", "failure_length_cells"}
    alone = found | {"forms": None}
    assert set(failure_length.draw(alone)) == {"failure_length_cells"}
    assert "two forms" in failure_length.tell(alone)
    assert "| majority |" in failure_length.tell(found)
    assert rewards_of(every_cell(config)[0]) == list(found["forms"]["lost"])


def test_ticks_of_draws_are_plain_numbers():
    figure, axis = plt.subplots()
    axis.set_xscale("log")
    plain_ticks(axis, 50)
    assert [x.get_text() for x in axis.get_xticklabels()] == "1 2 5 10 20 50".split()


# ---- Trained


@pytest.fixture(scope="module")
def trained(config):
    """Two evaluations of each run: rewards and seeds draw from laws of their own."""
    both = [(reward, s) for reward in failure_training.REWARDS for s in config.seeds]
    for place, (reward, seed) in enumerate(both):
        run = failure_training.training(config, reward, seed)
        for step, laws in ((0, LAWS), (10, WORKED if place > 1 else LAWS)):
            groups = fabricated.draws(laws, 2, seed=7 * place + step)
            fabricated.write(folder(config, run) / "eval" / f"{step}.jsonl", groups)
    found = failure_training.findings(config)
    return json.loads(json.dumps(found, allow_nan=False))


def test_trained_numbers_are_means_over_seeds_and_samples(config, trained):
    assert trained["steps"] == [0, 10]
    for place, reward in enumerate(failure_training.REWARDS):
        seeds = [
            fabricated.draws(
                WORKED if 2 * place + k > 1 else LAWS, 2, seed=7 * (2 * place + k) + 10
            )
            for k in range(2)
        ]
        lines = [line for groups in seeds for group in groups for line in group[1:]]
        first = [group[0] for groups in seeds for group in groups]
        each = trained["rewards"][reward]
        last = {name: each[name]["curve"][-1][0] for name in each}
        assert last == pytest.approx(
            {
                "accuracy": np.mean([right(line) for line in lines]),
                "greedy_accuracy": np.mean([right(line) for line in first]),
                "tokens": np.mean([line["num_tokens"] for line in lines]),
                "short": np.mean([brief(line) for line in lines]),
            }
        )
        start = each["tokens"]["curve"][0][0]
        assert each["tokens"]["change"][0] == pytest.approx(last["tokens"] - start)
        of_first = trained["rewards"]["log-probability"]["accuracy"]["curve"][-1][0]
        assert each["accuracy"]["over"][0] == pytest.approx(last["accuracy"] - of_first)
        mine = [np.mean([brief(x) for g in groups for x in g[1:]]) for groups in seeds]
        assert each["short"]["by_seed"] == pytest.approx(mine)


def test_differences_of_the_seeds_are_paired_and_have_their_mean(config, trained):
    for place, reward in enumerate(failure_training.REWARDS):
        each = trained["rewards"][reward]
        assert each["short"]["change"][0] == pytest.approx(
            np.mean(each["short"]["change_of_seeds"])
        )
        for k, seed in enumerate(config.seeds):
            run = folder(config, failure_training.training(config, reward, seed))
            ends = [
                np.mean(
                    [brief(line) for line in files.read_lines(path) if is_draw(line)]
                )
                for path in (run / "eval/10.jsonl", run / "eval/0.jsonl")
            ]
            first = trained["rewards"]["log-probability"]["short"]["by_seed"][k]
            change = each["short"]["change_of_seeds"][k]
            assert change == pytest.approx(ends[0] - ends[1])
            assert each["short"]["over_of_seeds"][k] == pytest.approx(ends[0] - first)
            assert place or each["short"]["over_of_seeds"][k] == 0


def test_trained_is_drawn_and_told(trained):
    assert set(failure_training.draw(trained)) == {"failure_training"}
    assert "| majority |" in failure_training.tell(trained)


ABOVE, BELOW, NOTHING = [1.0, 0.5, 1.5], [-1.0, -1.5, -0.5], [0.1, -0.1, 0.3]


@pytest.mark.parametrize(
    ("tokens", "accuracy", "agrees"),
    [
        ((BELOW, [-1, -2]), (ABOVE, [1, 2]), [True, True, True]),
        ((ABOVE, [1, 2]), (BELOW, [-1, -2]), [False, False, False]),
        ((BELOW, [-1, 0.5]), (ABOVE, [1, -0.5]), [None] * 3),  # seeds disagree
        ((ABOVE, [1, -0.5]), (BELOW, [-1, 0.5]), [None] * 3),
        ((NOTHING, [-1, -2]), (NOTHING, [1, 2]), [None] * 3),
        ((BELOW, [-1]), (ABOVE, [1]), [True, True, True]),
    ],
)
def test_trained_is_judged_by_the_interval_and_every_seed(tokens, accuracy, agrees):
    value = lambda name, pair: {name: pair[0], f"{name}_of_seeds": pair[1]}
    rewards = {
        reward: {"tokens": value("change", tokens), "accuracy": value("over", accuracy)}
        for reward in failure_training.REWARDS
    }
    checks = failure_training.judge({"built": True, "rewards": rewards})
    assert [check.agrees for check in checks] == agrees
    count = "one seed" if len(tokens[1]) == 1 else "each of its 2 seeds"
    assert all(
        count in check.rule and "base built" in check.statement for check in checks
    )
    none = failure_training.judge({"built": False, "rewards": rewards})
    assert [check.agrees for check in none] == [None] * 3


def test_rewards_of_a_seed_choose_from_the_same_draws(config):
    runs = failure_training.runs(config)
    assert len(runs) == len(set(run.name for run in runs)) == 6
    for run in runs:
        words = list(run.words)
        reward, seed = words[words.index("--reward") + 1], run.name[-1]
        assert run.name.endswith(f"{reward}-seed{seed}")
        assert words[words.index("--seed") + 1] == seed
        if reward == "log-probability":
            assert "--draws" not in words
            continue
        (need,) = run.needs
        assert need.name.endswith(f"log-probability-seed{seed}")
        draws = words[words.index("--draws") + 1]
        assert draws == f"{need.name}/rounds/00000.draws.jsonl"
    assert in_order(runs)[0].name == "pretrain/shortcut"


def test_an_evaluation_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected evaluations in"):
        failure_training.evaluations(tmp_path)


def test_quick_asks_for_no_base_that_must_be_trained(tmp_path):
    quick = quick_config(output_dir=tmp_path)
    runs = [*failure_length.runs(quick), *failure_training.runs(quick)]
    assert not any("pretrain" in run.name for run in in_order(runs))
