"""`jsharp curves`: points to CSV and back, drawing, refusals, going on after a kill."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.curves import command, plots
from experiments.curves.command import main, read_points, select, write_points
from experiments.curves.curve import Curve, Panel, Point
from jsharp import files


@dataclasses.dataclass(frozen=True)
class Config:
    largest: int = 8


def squares(config: Config, seed: int) -> list[Point]:
    assert jnp.zeros(()).dtype == jnp.float64
    x = np.arange(1.0, config.largest + 1)
    measured = [Point("p", "ours", "measured", v, v**2, v**2 - 0.5, v**2) for v in x]
    return [*measured, *(Point("p", "theory", "theory", v, 2 * v**2) for v in x)]


PANEL = Panel("p", "x", "y")
TOY = Curve("toy", "squares", Config(), Config(largest=4), squares, (PANEL,))


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(command, "CURVES", (TOY,))


def test_points_come_back_from_their_file(tmp_path):
    points = [
        Point("a", "b, c", "bound", 0.1, 1 / 3),
        Point("a", "d", "measured", 1e-300, math.inf, 0.0, math.inf),
    ]
    write_points(tmp_path / "points.csv", points)
    back = read_points(tmp_path / "points.csv")
    np.testing.assert_equal(back, points)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the columns panel,series,kind"),
        ("panel,series,kind,x,y,low,high\na,b,measured,1,two,,\n", "line 2"),
        ("panel,series,kind,x,y,low,high\na,b,guess,1,2,,\n", "line 2: kind"),
        ("panel,series,kind,x,y,low,high\na,b,measured,1\n", "line 2"),
    ],
)
def test_a_damaged_file_is_refused_by_line(tmp_path, text, message):
    path = tmp_path / "points.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_points(path)


def test_the_slope_is_that_of_measured_points_only():
    with jax.enable_x64(True):
        series = plots.by_series(squares(Config(), 0), "p")
    found = plots.slope_of(series["ours"])
    assert found is not None and found.slope == pytest.approx(2.0)
    assert plots.slope_of(series["theory"]) is None
    assert plots.slope_of(series["ours"][:2]) is None, "two points have no interval"


def test_a_figure_is_four_files_that_a_second_run_does_not_change(
    toy, tmp_path, monkeypatch, capsys
):
    assert main([str(tmp_path)]) == 0
    names = ["toy.csv", "toy.json", "toy.png", "toy.svg"]
    before = {name: (tmp_path / name).read_bytes() for name in names}
    about = files.read_json(tmp_path / "toy.json")
    assert about["config"] == {"largest": 8}
    assert about["slopes"]["p: ours"]["slope"] == pytest.approx(2.0)
    # Killed between the points and the pictures: the points are not made again.
    for name in names[1:]:
        (tmp_path / name).unlink()
    stop = TOY._replace(run=lambda *args: pytest.fail("it ran again"))
    monkeypatch.setattr(command, "CURVES", (stop,))
    assert main([str(tmp_path)]) == 0
    assert {name: (tmp_path / name).read_bytes() for name in names} == before


def test_quick_takes_the_small_configuration(toy, tmp_path):
    assert main([str(tmp_path), "--quick"]) == 0
    assert files.read_json(tmp_path / "toy.json")["config"] == {"largest": 4}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--only", "toi"], "perhaps 'toy'"),
        (["--seed", "-1"], "seed: expected 0"),
    ],
)
def test_bad_input_is_refused_before_any_work(toy, tmp_path, capsys, args, message):
    assert main([str(tmp_path / "out"), *args]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_run_is_refused(toy, tmp_path, capsys):
    assert main([str(tmp_path)]) == 0
    assert main([str(tmp_path), "--quick"]) == 2
    assert "quick:" in capsys.readouterr().err


def test_names_are_unique_and_no_name_selects_all():
    names = [curve.name for curve in command.CURVES]
    assert len(set(names)) == len(names) and select([]) == command.CURVES


@pytest.mark.parametrize("curve", command.CURVES, ids=lambda curve: curve.name)
def test_the_quick_figure_is_written(curve, tmp_path):
    assert main([str(tmp_path), "--quick", "--only", curve.name]) == 0
    points = read_points(tmp_path / f"{curve.name}.csv")
    drawn = {point.panel for point in points}
    panels = {panel.name for panel in curve.panels}
    # A drawing of its own may show the same points in two panels.
    assert drawn == panels or (curve.draw is not None and drawn < panels)
    for kind in ("png", "svg"):
        assert (tmp_path / f"{curve.name}.{kind}").stat().st_size > 10_000
