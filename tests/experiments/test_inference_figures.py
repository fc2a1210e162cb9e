"""Figures 1 to 6 on fabricated responses: by brute force, by scipy, by algebra."""

import itertools
import json

import fabricated_responses as fabricated
import numpy as np
import pytest
import scipy.stats

import experiments.reproduce.command  # noqa: F401  (no window: backend Agg)
from experiments.paper import fig1, fig2, fig3, fig4, fig5, fig6
from experiments.reproduce import inference, plots, verdicts
from jsharp.commands.results import SEED
from jsharp.evaluate import RESAMPLES

plt = plots.plt
ALL = [each.EXPERIMENT for each in (fig1, fig2, fig3, fig4, fig5, fig6)]
LEVEL = verdicts.LEVEL
UP, DOWN, OPEN = [1.0, 0.5, 2.0], [-1.0, -2.0, -0.5], [0.0, -1.0, 1.0]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Three cells of four: greedy of the second is never right."""
    config = fabricated.config(
        tmp_path_factory.mktemp("out"),
        models=("embedded", "small"),
        tasks=("game24", "prontoqa"),
    )
    for seed, cell in enumerate(config.settings()):
        found = fabricated.draw(seed)
        if seed == 1:
            found.right[:, 0] = False
        fabricated.write(config, *cell, found)
    return config


@pytest.fixture(scope="module")
def cells(config):
    return inference.cells(config)


@pytest.fixture
def given():
    """What the first cell was made of."""
    return fabricated.draw(0)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def subsets(score: np.ndarray, value: np.ndarray, k: int) -> np.ndarray:
    """Mean over all k of N of the value of the best, ties shared, [B]."""

    def best(s, v, some):
        top = s[list(some)] == s[list(some)].max()
        return v[list(some)][top].mean()

    every = list(itertools.combinations(range(score.shape[1]), k))
    return np.array(
        [
            np.mean([best(s, v, some) for some in every])
            for s, v in zip(score, value, strict=True)
        ]
    )


def resampled(statistic, size: int) -> tuple[float, float]:
    """A percentile interval, one resample at a time."""
    rows = np.random.default_rng(SEED).integers(0, size, (RESAMPLES, size))
    draws = [statistic(row) for row in rows]
    with np.errstate(invalid="ignore"):  # between two infinite draws
        low, high = np.quantile(draws, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


# Figure 3.


def test_accuracy_of_the_best_of_k_is_that_of_all_subsets(cells, given):
    found = fig3.curve(cells[0])
    score, right = given.log_prob[:, 1:], given.right[:, 1:]
    greedy = given.right[:, 0]
    assert found["k"] == [1, 2, 3, 4, 5, 6] and found["prompts"] == 12
    assert found["greedy"][0] == pytest.approx(greedy.mean())
    assert found["sample"][0] == pytest.approx(right.mean())
    for k, accuracy, lift in zip(
        found["k"], found["accuracy"], found["percent_lift"], strict=True
    ):
        best = subsets(score, right, k)
        assert accuracy[0] == pytest.approx(best.mean())
        low, high = resampled(lambda rows, best=best: best[rows].mean(), 12)
        assert accuracy[1:] == pytest.approx([low, high])
        assert lift[0] == pytest.approx(100 * (best.mean() / greedy.mean() - 1))
    best = subsets(score, right, 6)
    assert found["later"] is None  # N = 6 is not above 20
    for name, before in (("gain", greedy), ("over_sample", right.mean(1))):
        change = best - before
        assert found[name][0] == pytest.approx(change.mean())
        ends = resampled(lambda rows, change=change: change[rows].mean(), 12)
        assert found[name][1:] == pytest.approx(ends)


def test_there_is_no_lift_over_a_greedy_that_is_never_right(cells):
    found = fig3.curve(cells[1])
    assert found["greedy"] == [0.0, 0.0, 0.0]
    assert found["percent_lift"] == [None] * 6
    assert found["gain"][0] > 0


def test_saturation_is_the_first_k_with_nine_tenths_of_the_gain():
    curve = np.array([0.0, 0.5, 0.89, 0.91, 0.95, 1.0])
    same = np.tile(curve, (10, 1))
    assert fig3.saturation(same) == [4.0, 4.0, 4.0]
    assert fig3.saturation(0.2 + 3 * same) == [4.0, 4.0, 4.0]


@pytest.mark.parametrize("worth, gains", [(2.0, True), (-2.0, False)])
def test_nothing_saturates_where_no_gain_over_a_sample_is_shown(tmp_path, worth, gains):
    rng = np.random.default_rng(4)
    given = fabricated.draw(4, 40)
    log_prob = worth * given.right + rng.normal(size=given.right.shape)
    config = fabricated.config(tmp_path)
    fabricated.write(config, "embedded", "game24", given._replace(log_prob=log_prob))
    found = fig3.curve(inference.cells(config)[0])
    assert (found["saturation"] is not None) == gains == (found["over_sample"][1] > 0)


@pytest.mark.parametrize("drift", [-0.3, -0.45])
def test_saturation_has_the_interval_of_its_resamples(drift):
    rng = np.random.default_rng(3)
    values = np.cumsum(rng.random((8, 6)) + drift, axis=1)

    def least(rows):
        mean = values[rows].mean(0)
        for k in range(6):
            if mean[-1] > mean[0] and mean[k] - mean[0] >= 0.9 * (mean[-1] - mean[0]):
                return k + 1.0
        return np.inf

    ends = resampled(least, 8)
    whole = least(np.arange(8)), np.floor(ends[0]), np.ceil(ends[1])
    expected = [x if np.isfinite(x) else None for x in whole]
    assert fig3.saturation(values) == expected
    # With the smaller drift some resamples gain nothing: the high end is infinite.
    assert (expected[2] is None) == (drift < -0.4)


# Figure 4.


def test_log_likelihood_of_the_best_of_k_is_that_of_all_subsets(cells, given):
    found = fig4.curve(cells[0])
    log_prob = given.log_prob[:, 1:]
    best = np.array([subsets(log_prob, log_prob, k) for k in range(1, 7)])
    means = [value[0] for value in found["log_prob"]]
    np.testing.assert_allclose(means, best.mean(1), atol=1e-12)
    assert found["greedy"][0] == pytest.approx(given.log_prob[:, 0].mean())
    above = log_prob.max(1) - given.log_prob[:, 0]
    assert found["over_greedy"][0] == pytest.approx(above.mean())
    assert found["over_greedy"][1:] == pytest.approx(
        resampled(lambda rows: above[rows].mean(), 12)
    )
    passing = [k for k in range(1, 7) if means[k - 1] >= found["greedy"][0]]
    assert found["passes"] == (passing or [None])[0]


def test_other_selections_rise_by_what_they_select(cells, given):
    found = fig4.curve(cells[0])["others_over_sample"]["length-normalised"]
    log_prob, tokens = given.log_prob[:, 1:], given.tokens[:, 1:]
    score = (log_prob / tokens).astype(np.float32)
    expected = subsets(score, log_prob, 6) - log_prob.mean(1)
    assert found[0] == pytest.approx(expected.mean())


def test_a_curve_that_falls_is_an_error(cells):
    falling = cells[0]._replace(
        picks=[
            p._replace(value={k: v - 0.1 * p.k for k, v in p.value.items()})
            for p in cells[0].picks
        ]
    )
    with pytest.raises(ValueError, match="less likely"):
        fig4.curve(falling)


# Figure 2.


def test_selections_at_n(cells, given):
    found = fig2.selections(cells[0])
    log_prob, right = given.log_prob[:, 1:], given.right[:, 1:]
    tokens, greedy = given.tokens[:, 1:], given.right[:, 0].astype(float)
    votes = [
        [0 if a is None else sum(a == x for x in row) for a in row]
        for row in given.answer[:, 1:]
    ]
    score = {
        "log-probability": log_prob,
        "length-normalised": (log_prob / tokens).astype(np.float32),
        "majority": np.array(votes, float),
    }
    best = {by: subsets(s, right, 6) for by, s in score.items()}
    for by, accuracy in best.items():
        lift = 100 * (accuracy.mean() / greedy.mean() - 1)
        assert found["percent_lift"][by][0] == pytest.approx(lift)
        gain = accuracy - greedy
        assert found["gain"][by][0] == pytest.approx(gain.mean())
        longer = subsets(score[by], tokens, 6) - tokens.mean(1)
        assert found["tokens_over_sample"][by][0] == pytest.approx(longer.mean())
        if by != "log-probability":
            more = accuracy - best["log-probability"]
            value = found["over_log_probability"][by]
            assert value[0] == pytest.approx(more.mean())
            ends = resampled(lambda rows, more=more: more[rows].mean(), 12)
            assert value[1:] == pytest.approx(ends)
    assert found["tokens_of_a_sample"] == pytest.approx(tokens.mean())


def test_coverage_and_greedy_are_counts_with_exact_intervals(cells):
    for cell, seed in zip(cells, range(3), strict=True):
        given, found = fabricated.draw(seed), fig2.selections(cell)
        covered = int(given.right[:, 1:].any(1).sum())
        greedy = 0 if seed == 1 else int(given.right[:, 0].sum())
        beta = scipy.stats.beta.ppf
        for k, value in ((covered, found["coverage"]), (greedy, found["greedy"])):
            low = beta(LEVEL / 2, k, 13 - k) if k else 0.0
            high = beta(1 - LEVEL / 2, k + 1, 12 - k) if k < 12 else 1.0
            assert value == pytest.approx([k / 12, low, high])
        curve = cell.pick("coverage", 6).value["accuracy"].mean()
        assert found["coverage"][0] == pytest.approx(curve)


@pytest.mark.parametrize(
    "counts, expected",
    [({"a": 95, "b": 5}, 1), ({"a": 94, "b": 6}, 2), ({"a": 50, "b": 45, "c": 5}, 2)],
)
def test_how_many_answers_hold_most_samples(counts, expected):
    drawn = [name for name, size in counts.items() for _ in range(size)] + [None] * 20
    samples = [[{"answer": answer}] for answer in drawn]
    cell = inference.Cell("m", "t", inference.Sampled(samples, []), [])
    assert fig2.answers(cell) == expected


# Figure 6.


def test_how_often_a_correct_response_is_likelier(cells, given):
    found = fig6.laws(cells[0])
    log_prob, right = given.log_prob[:, 1:], given.right[:, 1:]
    area = lambda values, marks: (
        scipy.stats.mannwhitneyu(values[marks], values[~marks]).statistic
        / (marks.sum() * (~marks).sum())
    )
    assert found["pooled"][0] == pytest.approx(area(log_prob, right))
    both = right.any(1) & ~right.all(1)
    assert found["prompts_with_both"] == both.sum() >= fig6.FEW
    each = [area(log_prob[b], right[b]) for b in np.nonzero(both)[0]]
    assert found["within"][0] == pytest.approx(np.mean(each))
    ends = resampled(lambda rows: np.array(each)[rows].mean(), len(each))
    assert found["within"][1:] == pytest.approx(ends)

    def likelier(rows):
        good, bad = log_prob[rows][right[rows]], log_prob[rows][~right[rows]]
        return ((np.sign(good[:, None] - bad) + 1) / 2).mean()

    assert found["pooled"][1:] == pytest.approx(resampled(likelier, 12))


def test_violation_and_separation_are_one_sided_kolmogorov_statistics(cells, given):
    found = fig6.laws(cells[0])
    log_prob, right = given.log_prob[:, 1:], given.right[:, 1:]
    points = np.unique(log_prob)
    law = lambda values: (values[:, None] <= points).mean(0)
    difference = lambda rows: (
        law(log_prob[rows][right[rows]]) - law(log_prob[rows][~right[rows]])
    )
    middle = difference(np.arange(12))
    rows = np.random.default_rng(SEED).integers(0, 12, (RESAMPLES, 12))
    far = [np.abs(difference(row) - middle).max() for row in rows]
    band = np.quantile(far, 1 - LEVEL)
    for name, side in (("violation", "greater"), ("separation", "less")):
        test = scipy.stats.ks_2samp(log_prob[right], log_prob[~right], side)
        at = float(test.statistic)
        expected = [at, max(0.0, at - band), min(1.0, at + band)]
        assert found[name] == pytest.approx(expected)


def test_histograms_count_every_response_once(cells):
    for cell in cells:
        found, right = fig6.laws(cell), cell.field("correct")
        assert sum(found["counts"]["correct"]) == right.sum()
        assert sum(found["counts"]["incorrect"]) == (~right).sum()
        edges, log_prob = found["edges"], cell.field("logprob_base")
        assert len(edges) == fig6.BINS + 1
        for name, some in (("correct", right), ("incorrect", ~right)):
            for i, count in enumerate(found["counts"][name]):
                last = i == fig6.BINS - 1  # its right edge is its own
                below = log_prob <= edges[i + 1] if last else log_prob < edges[i + 1]
                assert count == (some & (edges[i] <= log_prob) & below).sum()


# Figures 1 and 5.


def test_figure_1_shows_figure_3_at_n_and_its_example(config, cells):
    found = fig1.measure(config)
    curves = [fig3.curve(cell) for cell in cells]
    for row, curve in zip(found["cells"], curves, strict=True):
        assert row["percent_lift"] == curve["percent_lift"][-1]
        assert row["gain"] == curve["gain"]
    at = fig1.example(found["cells"])
    assert found["curve"] == curves[at]
    assert found["laws"] == fig6.laws(cells[at])


def test_figure_5_is_of_game24_alone(config):
    assert {run.words[4] for run in fig5.runs(config)} == {"game24"}
    found = fig5.measure(config)
    assert [cell["model"] for cell in found["accuracy"]] == ["embedded", "small"]
    assert {cell["task"] for cell in found["log_prob"]} == {"game24"}


def test_figure_5_without_game24_says_so(tmp_path):
    config = fabricated.config(tmp_path, tasks=("arithmetic",))
    assert fig5.runs(config) == []
    found = fig5.measure(config)
    assert fig5.draw(found) == {} and "game24" in fig5.tell(found)
    assert [check.agrees for check in fig5.judge(found)] == [None]


def test_figure_5_reads_its_own_runs_alone(tmp_path):
    config = fabricated.config(tmp_path, tasks=("game24", "arithmetic"))
    fabricated.write(config, "embedded", "game24", fabricated.draw(0))
    assert [run.name for run in fig5.runs(config)] == ["evaluate/embedded/game24"]
    assert len(fig5.measure(config)["accuracy"]) == 1


# What is drawn.


@pytest.mark.parametrize("experiment", ALL, ids=lambda each: each.name)
def test_figures_and_tables_are_made_from_json_alone(config, experiment):
    found = json.loads(json.dumps(experiment.measure(config), allow_nan=False))
    figures = experiment.draw(found)
    assert list(figures) == [experiment.name]
    for figure in figures.values():
        figure.canvas.draw()
    assert "| embedded |" in experiment.tell(found)
    for check in experiment.judge(found):
        assert check.statement and check.rule and check.evidence
        assert check.agrees in (True, False, None)


def texts(axis) -> dict[tuple[int, int], str]:
    """(task, model) -> text of a heat map."""
    return {
        (round(text.get_position()[1]), round(text.get_position()[0])): text.get_text()
        for text in axis.texts
    }


def test_a_heat_map_is_blank_where_there_is_no_cell(config):
    figure = fig2.draw(fig2.measure(config))["fig2"]
    lift, majority, coverage, greedy = figure.axes
    for axis in figure.axes:
        # prontoqa is unknown to the embedded model.
        assert sorted(texts(axis)) == [(0, 0), (0, 1), (1, 1)]
        assert [x.get_text() for x in axis.get_xticklabels()] == ["embedded", "small"]
        assert [x.get_text() for x in axis.get_yticklabels()] == ["game24", "prontoqa"]
        image = np.ma.getmaskarray(axis.images[0].get_array())
        assert image[1, 0] and not image[1, 1]
    assert texts(lift)[0, 1] == texts(majority)[0, 1] == "greedy 0"
    assert texts(greedy)[0, 1].startswith("0\n[0, ")
    assert np.ma.getmaskarray(lift.images[0].get_array())[0, 1]
