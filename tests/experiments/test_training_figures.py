"""Figures 7 to 9 and tables 1 and 2 from fabricated runs, beside loops over records."""

import dataclasses
import itertools
import json
import statistics

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.stats
from fabricated_training import (
    GREEDY,
    PROMPTS,
    SAMPLES,
    STEPS,
    fabricate,
    read,
    responses,
    rising,
    settings,
)

from experiments.paper import fig7, fig8, fig9, table1, table2
from experiments.reproduce import amortised, inference, trained, work
from experiments.reproduce.config import Config
from experiments.reproduce.experiment import folder
from experiments.reproduce.verdicts import LEVEL
from experiments.style import STYLE
from jsharp import files
from jsharp.commands.results import RESPONSES, SEED
from jsharp.evaluate import ACCURACY, Pick, summarise

DRAWN = ("fig7", "fig8", "fig9", "table1")
MODULES = {"fig7": fig7, "fig8": fig8, "fig9": fig9, "table1": table1, "table2": table2}


@pytest.fixture
def config(tmp_path):
    return settings(tmp_path)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs that are only read."""
    return rising(settings(tmp_path_factory.mktemp("made")))


@pytest.fixture
def own(config):
    """Runs of this test alone, to be spoilt."""
    return rising(config)


FIELD = {ACCURACY: "correct", trained.LOG_PROB: "logprob_base"}


def test_axes_are_steps_seeds_prompts_samples(made):
    course = trained.course(made, "embedded", "arithmetic", 3)
    assert course.steps == STEPS and course.seeds == (0, 1, 2)
    assert course.epochs == (0.0, 0.8, 1.6, 10.0)
    for s, step in enumerate(STEPS):
        for k, seed in enumerate(made.seeds):
            groups = read(made, "arithmetic", 3, seed, step)
            for b, group in enumerate(groups.values()):
                for i, one in enumerate(group[1:]):
                    for measure, name in {
                        **FIELD,
                        trained.TOKENS: "num_tokens",
                    }.items():
                        assert course.sampled[measure][s, k, b, i] == one[name]
    assert course.greedy[ACCURACY].tolist() == [GREEDY[b][0] for b in range(PROMPTS)]


@pytest.mark.parametrize("measure", [ACCURACY, trained.LOG_PROB])
def test_lifts_by_loops_over_the_records(made, measure):
    found = trained.lifts(trained.course(made, "embedded", "game24", 5), measure)
    greedy = statistics.mean(
        GREEDY[b][0 if measure == ACCURACY else 1] for b in range(PROMPTS)
    )
    assert found["greedy"][0] == pytest.approx(greedy, rel=1e-12)
    each = [[], [], []]
    for s, step in enumerate(STEPS):
        for k in range(3):
            groups = read(made, "game24", 5, k, step)
            values = [r[FIELD[measure]] for g in groups.values() for r in g[1:]]
            each[k].append(statistics.mean(map(float, values)) - greedy)
        mean = statistics.mean(each[k][s] for k in range(3))
        assert found["gain"][s][0] == pytest.approx(mean, rel=1e-12)
        assert found["mean"][s][0] == pytest.approx(mean + greedy, rel=1e-12)
        percent = 100 * mean / abs(greedy)
        assert found["percent_lift"][s][0] == pytest.approx(percent, rel=1e-12)
    np.testing.assert_allclose(found["gain_of_seeds"], each, rtol=1e-12)
    np.testing.assert_allclose(
        found["percent_lift_of_seeds"], 100 * np.array(each) / abs(greedy), rtol=1e-12
    )
    rises = [seed[-1] - seed[0] for seed in each]
    np.testing.assert_allclose(found["rise_of_seeds"], rises, rtol=1e-9)
    assert found["rise"][0] == pytest.approx(statistics.mean(rises), rel=1e-9)


def test_accuracy_agrees_with_the_evaluator_ends_and_all(made):
    """jsharp.evaluate resamples by another road: counts of prompts."""
    course = trained.course(made, "embedded", "game24", 5)
    found = trained.lifts(course, ACCURACY)
    picks = [Pick("greedy", 1, {ACCURACY: course.greedy[ACCURACY]})]
    for values in course.sampled[ACCURACY]:
        picks.append(Pick("sample", 1, {ACCURACY: values.mean(2).mean(0)}))
    rows = summarise(picks, level=LEVEL, seed=SEED)[1:]
    for s, row in enumerate(rows):
        assert row.gain is not None and row.lift is not None
        np.testing.assert_allclose(found["gain"][s], row.gain, atol=1e-12)
        np.testing.assert_allclose(found["mean"][s], row.mean[ACCURACY], atol=1e-12)
        assert np.isfinite(row.lift).all()
        np.testing.assert_allclose(found["percent_lift"][s], row.lift, atol=1e-9)


def test_the_interval_is_paired_over_prompts():
    """Gains alike on prompts that are far apart: no width, though means have one."""
    before = np.array([-1.0, -8.0, -3.0, -20.0, -5.0])
    after = before + 0.5
    assert trained.gain(before, after) == pytest.approx([0.5, 0.5, 0.5])
    rows = np.random.default_rng(SEED).integers(0, 5, (2000, 5))
    ratios = [50 / abs(statistics.mean(before[row])) for row in rows]
    ends = np.quantile(ratios, [0.025, 0.975])
    wanted = [50 / 7.4, *ends]
    found = np.array(trained.percent_lift(before, after), float)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    assert ends[1] - ends[0] > 1


@pytest.mark.parametrize("n", [1, 3, 5])
def test_the_best_of_n_is_that_of_all_subsets_on_the_same_prompts(made, n):
    path = folder(made, inference.evaluation(made, "embedded", "game24")) / RESPONSES
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    ids = [f"task-held_out-{i}" for i in range(PROMPTS)]
    per_prompt = {name: [] for name in ids}
    for name in ids:
        samples = [x for x in lines if x["id"] == name and x["sample_id"] >= 0]
        for some in itertools.combinations(samples, n):
            per_prompt[name].append(max(some, key=lambda x: x["logprob_base"]))
    for measure, field in FIELD.items():
        means = [
            statistics.mean(float(x[field]) for x in per_prompt[name]) for name in ids
        ]
        place = 0 if measure == ACCURACY else 1
        greedy = statistics.mean(GREEDY[b][place] for b in range(PROMPTS))
        best = trained.lifts(trained.course(made, "embedded", "game24", n), measure)
        best, mean = best["best"], statistics.mean(means)
        assert best["prompts"] == PROMPTS
        assert best["mean"][0] == pytest.approx(mean, rel=1e-9)
        assert best["gain"][0] == pytest.approx(mean - greedy, rel=1e-9)


def verdicts(config, name):
    module = MODULES[name]
    found = json.loads(json.dumps(module.measure(config), allow_nan=False))
    return [check.agrees for check in module.judge(found)]


def test_all_agree_where_all_rises_in_training_and_in_n(config):
    level = lambda at: -6.0 + 0.08 * at[3] + at[1] * (at[3] > 0)
    low = {i: (i == 0, -5.5) for i in range(9)}
    right = lambda at: at[3] / 100
    fabricate(config, right=right, level=level, greedy=low)
    assert {name: verdicts(config, name) for name in DRAWN} == {
        "fig7": [True],
        "fig8": [True],
        "fig9": [True],
        "table1": [True, True],
    }


def test_one_cell_that_falls_is_told_and_named(config):
    down = lambda at: -1 if at[0] == "arithmetic" else 1
    level = lambda at: -6.0 + down(at) * (0.08 * at[3] + at[1] * (at[3] > 0))
    right = lambda at: 0.5 + down(at) * at[3] / 200
    middling = {i: (i < 3, -6.0) for i in range(9)}
    fabricate(config, right=right, level=level, greedy=middling)
    assert {name: verdicts(config, name) for name in DRAWN} == {
        "fig7": [False],
        "fig8": [False],
        "fig9": [False],
        "table1": [False, False],
    }
    for name in DRAWN:
        for check in MODULES[name].judge(MODULES[name].measure(config)):
            told = "yes: 1 (embedded game24); the contrary: 1 (embedded arithmetic)"
            assert check.evidence == told


def test_figures_7_and_8_compare_with_the_base_s_sample_and_table_1_with_greedy(config):
    level = lambda at: -20.0 + 0.08 * at[3]
    best = {i: (True, -1.0) for i in range(9)}
    fabricate(config, right=lambda at: at[3] / 130, level=level, greedy=best)
    assert verdicts(config, "fig7") == verdicts(config, "fig8") == [True]
    assert verdicts(config, "table1") == [False, False]


def test_seeds_that_go_both_ways_do_not_tell(config):
    """Two seeds fall and one rises more: the mean rises on every prompt."""
    way = lambda at: (at[3] > 0) * (500.0 if at[2] == 1 else -100.0)
    level = lambda at: -1000.0 + way(at) * (1 + at[1])
    right = lambda at: 0.5 if not at[3] else float(at[2] == 1)
    fabricate(
        config, right=right, level=level, greedy={i: (i < 3, -6.0) for i in range(9)}
    )
    assert [verdicts(config, name) for name in ("fig7", "fig8", "fig9")] == [[None]] * 3
    for cell in fig8.measure(config)["cells"]:
        assert cell[trained.LOG_PROB]["rise"][1] > 0


def test_figure_9_pairs_the_largest_and_the_least_n(made):
    found = fig9.measure(made)
    assert [cell["n"] for cell in found["cells"]] == [1, 3, 5] * 2
    field = FIELD[trained.LOG_PROB]
    for each in found["more"]:
        by_seed = []
        for seed in made.seeds:
            ends = []
            for n in (1, 5):
                groups = read(made, each["task"], n, seed, STEPS[-1])
                values = [float(r[field]) for g in groups.values() for r in g[1:]]
                ends.append(statistics.mean(values))
            by_seed.append(ends[1] - ends[0])
        np.testing.assert_allclose(each["of_seeds"], by_seed, atol=1e-12)
        mean = pytest.approx(statistics.mean(by_seed), abs=1e-12)
        assert each["difference"][0] == mean


def test_figure_9_needs_several_n(made):
    alone = dataclasses.replace(made, generations=1)
    with pytest.raises(ValueError, match="several N"):
        fig9.runs(alone)


def test_table_1_is_the_end_of_figures_7_and_8(made):
    found = table1.measure(made)["cells"]
    for name, module in ((ACCURACY, fig7), (trained.LOG_PROB, fig8)):
        for row, cell in zip(found, module.measure(made)["cells"], strict=True):
            for lift in ("gain", "percent_lift"):
                assert row[name][lift] == cell[name][lift][-1]
                ends = [seed[-1] for seed in cell[name][f"{lift}_of_seeds"]]
                error = pytest.approx(scipy.stats.sem(ends), rel=1e-9)
                assert row[name][f"{lift}_error"] == error
    text = table1.tell({"level": 0.05, "cells": found})
    ours, published = text.split("Published: Table 1 of the paper")
    assert "19.24 +- 2.41" in published and "19.24" not in ours
    lift = found[0][ACCURACY]
    shown = f"{lift['percent_lift'][0]:.2f} +- {lift['percent_lift_error']:.2f}"
    assert shown in ours


def test_greedy_that_is_never_right_has_no_percent_lift(config):
    fabricate(config, greedy={i: (False, -3.0) for i in range(9)})
    cell = fig7.measure(config)["cells"][0][ACCURACY]
    assert set(cell["percent_lift"]) == {None} and cell["percent_lift_of_seeds"] is None
    assert cell["best"]["percent_lift"] is None and cell["gain"][-1][0] > 0
    for name in ("fig7", "fig9", "table1"):
        found = json.loads(json.dumps(MODULES[name].measure(config), allow_nan=False))
        with plt.rc_context(STYLE):
            for figure in MODULES[name].draw(found).values():
                figure.canvas.draw()
                plt.close(figure)
        assert MODULES[name].tell(found) and MODULES[name].judge(found)
    assert "none" in fig7.tell(fig7.measure(config))


def test_a_base_asked_fewer_prompts_is_compared_on_those(own):
    """Greedy is right on none of these, though it is on others: no lift of the best."""
    path = folder(own, inference.evaluation(own, "embedded", "game24")) / RESPONSES
    rng = np.random.default_rng(0)
    files.write_lines(path, responses(rng, [3, 0], 5, greedy=GREEDY))
    found = {module: module.measure(own) for module in (fig7, fig9, table1)}
    best = found[fig7]["cells"][0][ACCURACY]["best"]
    assert best["prompts"] == 2 and best["percent_lift"] is None
    for module, numbers in found.items():
        assert drawn(module, numbers) and "none" in module.tell(numbers)


def drawn(module, found):
    """The figure's axes, from what a results file would hold."""
    with plt.rc_context(STYLE):
        (figure,) = module.draw(json.loads(json.dumps(found))).values()
        figure.canvas.draw()
    plt.close(figure)
    return figure.axes


@pytest.mark.parametrize(
    ("module", "measure", "lift"),
    [(fig7, ACCURACY, "percent_lift"), (fig8, trained.LOG_PROB, "gain")],
)
def test_a_panel_shows_the_mean_every_seed_and_the_best_of_n(
    made, module, measure, lift
):
    found = module.measure(made)
    axes = drawn(module, found)
    assert [axis.get_title() for axis in axes] == ["game24", "arithmetic"]
    for axis, cell in zip(axes, found["cells"], strict=True):
        values = cell[measure]
        middle, *seeds, best, greedy = [
            list(map(float, row.get_ydata())) for row in axis.get_lines()
        ]
        assert middle == [value[0] for value in values[lift]]
        assert seeds == values[f"{lift}_of_seeds"]
        assert best == [values["best"][lift][0]] * 2 and greedy == [0, 0]
        assert axis.get_lines()[0].get_xdata().tolist() == list(STEPS)
        (band,) = axis.collections
        ends = band.get_paths()[0].get_extents()
        lows, highs = np.array(values[lift])[:, 1:].T
        assert (ends.y0, ends.y1) == pytest.approx((min(lows), max(highs)))
        (top,) = axis.child_axes
        assert axis.get_xlabel() == "step" and top.get_xlabel() == "epoch"
        low, high = (edge / 10 for edge in axis.get_xlim())  # 100 steps, 10 epochs
        assert top.get_xlim() == pytest.approx((low, high))


def test_figure_9_has_a_column_a_cell_and_a_line_an_n(made):
    found = fig9.measure(made)
    axes = drawn(fig9, found)
    columns = ["embedded, game24", "embedded, arithmetic"]
    assert [axis.get_title() for axis in axes] == [*columns, "", ""]
    for axis, (name, lift, _) in zip(
        axes, [p for p in fig9.PANELS for _ in columns], strict=True
    ):
        lines = {row.get_label(): row for row in axis.get_lines()}
        task = "game24" if axis in (axes[0], axes[2]) else "arithmetic"
        for cell in (c for c in found["cells"] if c["task"] == task):
            wanted = [value[0] for value in cell[name][lift]]
            shown = lines[f"N = {cell['n']}"].get_ydata()
            np.testing.assert_array_equal(shown, wanted)


def test_runs_are_shared_and_have_the_paper_s_sizes():
    config = Config(names=())
    names = {run.name for run in work.in_order(fig9.runs(config))}
    for n in (10, 25, 50):
        for seed in (0, 1, 2):
            assert f"sft/embedded/game24/n{n}-seed{seed}" in names
    assert not [name for name in names if "medium" in name]
    every = [
        run for module in MODULES.values() for run in module.EXPERIMENT.runs(config)
    ]
    by_name = {run.name for run in work.in_order(every)}  # no name with two commands
    assert {"evaluate/medium/prontoqa", "sft/medium/prontoqa/n50-seed2"} <= by_name
    assert "evaluate/large/game24" not in by_name


def run_of(config):
    return folder(config, amortised.training(config, "embedded", "game24", 5, 1))


def test_runs_that_were_evaluated_otherwise_are_refused(own):
    (run_of(own) / "eval/16.jsonl").unlink()
    with pytest.raises(
        ValueError, match=r"same steps, 0 first.*n5-seed1': \[0, 8, 100"
    ):
        trained.course(own, "embedded", "game24", 5)


def test_runs_without_the_base_are_refused(own):
    for seed in own.seeds:
        run = amortised.training(own, "embedded", "game24", 5, seed)
        (folder(own, run) / "eval/0.jsonl").unlink()
    with pytest.raises(ValueError, match="0 first"):
        trained.course(own, "embedded", "game24", 5)


def test_other_prompts_are_refused(own):
    rng = np.random.default_rng(0)
    some = responses(rng, range(1, PROMPTS + 1), SAMPLES)
    files.write_lines(run_of(own) / "eval/16.jsonl", some)
    with pytest.raises(ValueError, match="different prompts"):
        trained.course(own, "embedded", "game24", 5)


def test_a_base_that_was_asked_nothing_of_it_is_refused(own):
    path = folder(own, inference.evaluation(own, "embedded", "game24")) / RESPONSES
    some = responses(np.random.default_rng(0), range(90, 94), 5)
    files.write_lines(path, some)
    with pytest.raises(ValueError, match="none of the prompts"):
        trained.course(own, "embedded", "game24", 5)
