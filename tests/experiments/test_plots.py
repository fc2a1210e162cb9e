"""What the plots draw: texts, colours, curves, bands, histograms."""

import re
from collections.abc import Sequence

import numpy as np
import pytest

import experiments.reproduce.command  # noqa: F401  (no window: backend Agg)
from experiments.reproduce import plots

plt = plots.plt
UP, DOWN, OPEN = [1.0, 0.5, 2.0], [-1.0, -2.0, -0.5], [0.0, -1.0, 1.0]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.mark.parametrize(
    "interval, text",
    [
        ([41.6, -3.2, 99.9], "+42\n[-3, +100]"),
        ([150.0, 12.0, None], "+150\n[+12, ∞]"),
        (None, "greedy 0"),
    ],
)
def test_a_lift_as_text(interval, text):
    assert plots.lift_text(interval) == text


def row(interval: Sequence[float | None] | None, model: str = "m"):
    return {"model": model, "task": "t", "value": interval}


def test_a_lift_is_bold_where_its_interval_does_not_hold_0():
    found = {"a": UP, "b": DOWN, "c": OPEN, "d": [9.0, 1.0, None], "e": None}
    _, axis = plt.subplots()
    cells = [row(interval, model) for model, interval in found.items()]
    plots.lift_map(axis, cells, lambda cell: cell["value"], "lift")
    weights = [text.get_fontweight() for text in axis.texts]
    assert weights == ["bold", "bold", "normal", "bold", "normal"]


def test_colours_of_a_lift_are_symmetric_and_those_of_a_share_full():
    _, (left, right) = plt.subplots(1, 2)
    cells = [row([-30.0, -40.0, -20.0], "a"), row([10.0, 5.0, 20.0], "b")]
    plots.lift_map(left, cells, lambda cell: cell["value"], "lift")
    plots.share_map(right, [row([0.5, 0.4, 0.6])], lambda x: x["value"], "share")
    assert left.images[0].get_clim() == (-30, 30)
    assert right.images[0].get_clim() == (0, 1)
    assert right.texts[0].get_text() == "50\n[40, 60]"
    _, axis = plt.subplots()
    plots.lift_map(axis, [row([400.0, 1.0, None])], lambda cell: cell["value"], "lift")
    assert axis.images[0].get_clim() == (-100, 100)


def curve(values, model="a"):
    return {"model": model, "task": "t", "k": [1, 2, 3], "value": values, "flat": UP}


def test_a_curve_is_its_numbers_and_its_level_is_dotted():
    values = [[1.0, 0.5, 1.5], [2.0, 1.0, 3.0], [3.0, 2.0, 4.0]]
    cells = [curve(values), curve(values[::-1], "b")]
    _, axis = plt.subplots()
    plots.curves(
        axis,
        cells[1:],
        lambda cell: cell["value"],
        all_cells=cells,
        scale=10,
        level=lambda cell: cell["flat"],
    )
    line, flat = axis.lines
    np.testing.assert_array_equal(line.get_xydata(), [[1, 30], [2, 20], [3, 10]])
    assert line.get_color() == flat.get_color() == plots.PALETTE[1]
    assert flat.get_ydata()[0] == 10 and flat.get_linestyle() == ":"
    corners = axis.collections[0].get_paths()[0].vertices
    assert {(1.0, 20.0), (1.0, 40.0), (3.0, 5.0), (3.0, 15.0)} <= set(
        map(tuple, corners.tolist())
    )


def test_an_infinite_end_reaches_the_edge_and_an_infinite_estimate_is_a_gap():
    values = [[1.0, 0.5, 1.5], [2.0, 1.0, None], [None, 1.0, None]]
    _, axis = plt.subplots()
    plots.curves(axis, [curve(values)], lambda x: x["value"], all_cells=[curve(values)])
    assert np.isnan(axis.lines[0].get_ydata()[2])
    corners = axis.collections[0].get_paths()[0].vertices
    assert corners[:, 0].max() == 2
    assert corners[:, 1].max() == axis.get_ylim()[1] > 2
    plt.close("all")
    _, axis = plt.subplots()
    never = [None, None, None]
    plots.curves(axis, [curve(never)], lambda x: x["value"], all_cells=[curve(never)])
    assert not axis.collections[0].get_paths()
    assert axis.get_legend().get_texts()[0].get_text() == "a (undefined)"
    assert axis.get_xlim()[0] < 1 and axis.get_xlim()[1] > 3


def test_a_histogram_shows_shares_of_each_kind():
    _, axis = plt.subplots()
    plots.histograms(axis, [0.0, 1.0, 2.0], {"correct": [3, 1], "incorrect": [0, 0]})
    assert {tuple(patch.get_data().values) for patch in axis.patches} == {(75.0, 25.0)}
    (label,) = axis.get_legend().get_texts()
    assert re.fullmatch(r"correct \(4\)", label.get_text())


def test_a_model_has_one_colour():
    cells = [row(None, name) for name in "abcdefgh"]
    colors = [plots.color_of(name, cells) for name in "abcdefgh"]
    assert len(set(colors[:7])) == 7 and colors[7] == colors[0]
