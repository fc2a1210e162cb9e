"""`jsharp curves`: what the theorems predict beside what is measured.

Each figure is written as NAME.csv (the points), NAME.json (its configuration and the
fitted slopes), NAME.png and NAME.svg. A figure whose points are there already is drawn
from them, so a run that was killed goes on behind the last finished figure and ends
with the same bytes.
"""

import csv
import dataclasses
import difflib
import io
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro
from rich.console import Console

from experiments.curves import (
    beta_path,
    exploration,
    minimax,
    offline,
    packing,
    phase,
    plots,
    sft,
)
from experiments.curves.curve import Curve, Point
from experiments.stages import claim_directory
from experiments.style import METADATA
from jsharp import files
from jsharp.provenance import source

CURVES: tuple[Curve, ...] = (
    minimax.CURVE,
    *sft.CURVES,
    offline.CURVE,
    packing.CURVE,
    exploration.CURVE,
    beta_path.CURVE,
    phase.CURVE,
)
HEADER = Point._fields


@dataclasses.dataclass(frozen=True)
class Config:
    """Draw sample-complexity curves: theory lines, measurements, intervals, slopes.

    Example: jsharp curves --only minimax phase
    """

    output_dir: Annotated[Path, tyro.conf.Positional] = Path("curves-out")
    """Folder for NAME.csv, NAME.json, NAME.png and NAME.svg of each figure."""
    only: tuple[str, ...] = ()
    """Names of the figures to draw; default: all."""
    seed: int = 0
    """Seed of what is sampled."""
    quick: bool = False
    """Small versions of the figures: seconds, not minutes."""


def select(names: Sequence[str]) -> tuple[Curve, ...]:
    """The curves of these names, all for none.

    Raises ValueError for a name that is no curve's.
    """
    known = {curve.name: curve for curve in CURVES}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" (perhaps {near[0]!r})" if near else ""
            raise ValueError(f"only: expected {sorted(known)}, found {name!r}{hint}")
    return tuple(curve for curve in CURVES if not names or curve.name in names)


def write_points(path: Path, points: Sequence[Point]) -> None:
    """A CSV with the fields of `Point`; an unknown interval is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for point in points:
        numbers = ["" if math.isnan(v) else repr(float(v)) for v in point[3:]]
        writer.writerow([*point[:3], *numbers])
    files.write_text(path, text.getvalue())


def read_points(path: Path) -> list[Point]:
    """What `write_points` wrote.

    Raises ValueError, naming the file and the line, for anything else.
    """
    rows = list(csv.reader(io.StringIO(path.read_text("utf-8"))))
    if not rows or tuple(rows[0]) != HEADER:
        raise ValueError(f"{path}: line 1: expected the columns {','.join(HEADER)}")
    points = []
    for line, row in enumerate(rows[1:], 2):
        try:
            panel, series, kind, *numbers = row
            x, y, low, high = (float(v) if v else math.nan for v in numbers)
        except ValueError as error:
            raise ValueError(f"{path}: line {line}: {error}, found {row}") from error
        if kind not in ("measured", "theory", "bound"):
            raise ValueError(f"{path}: line {line}: kind: found {kind!r}")
        points.append(Point(panel, series, kind, x, y, low, high))
    return points


def write(curve: Curve, config: Config) -> None:
    """Run one curve unless its points are there, then describe and draw them."""
    stem = config.output_dir / curve.name
    table = stem.with_suffix(".csv")
    settings = curve.quick if config.quick else curve.config
    if not table.exists():
        with jax.enable_x64(True):
            write_points(table, curve.run(settings, config.seed))
    points = read_points(table)
    files.write_json(stem.with_suffix(".json"), describe(curve, settings, points))
    figure = plots.draw(curve, points)
    for kind, metadata in METADATA.items():
        image = io.BytesIO()
        with plots.styled():
            figure.savefig(image, format=kind, metadata=metadata)
        files.write_bytes(stem.with_suffix(f".{kind}"), image.getvalue())
    plots.close(figure)


def describe(curve: Curve, settings: Any, points: Sequence[Point]) -> dict[str, Any]:
    """Caption, configuration and the slope of each measured series."""
    slopes = {}
    for panel in curve.panels:
        for name, series in plots.by_series(points, panel.name).items():
            found = plots.slope_of(series) if panel.slopes else None
            if found is not None:
                slopes[f"{panel.name}: {name}"] = found._asdict()
    return {
        "name": curve.name,
        "says": curve.says,
        "config": dataclasses.asdict(settings),
        "slopes": slopes,
        "slope_level": plots.SLOPE_LEVEL,
    }


def main(args: list[str]) -> int:
    """Run the command; usage errors and --help leave by SystemExit, as tyro does it."""
    config = tyro.cli(Config, args=args, prog="jsharp curves")
    try:
        curves = select(config.only)
        if not 0 <= config.seed < 2**31:
            raise ValueError(f"seed: expected 0 to 2^31 - 1, found {config.seed}")
        # Figures may be added to a folder one by one, but by one program.
        identity = {"seed": config.seed, "quick": config.quick, "source": source()}
        claim_directory(config.output_dir, identity)
    except (ValueError, OSError) as error:
        print(f"jsharp curves: {error}", file=sys.stderr)
        return 2
    console = Console(highlight=False)
    start = time.perf_counter()
    for number, curve in enumerate(curves, 1):
        console.print(
            f"[bold]{curve.name}[/] ({number} of {len(curves)}): {curve.says}"
        )
        began = time.perf_counter()
        with console.status("running"):
            write(curve, config)
        now = time.perf_counter()
        left = (now - start) / number * (len(curves) - number)
        console.print(f"[dim]  {now - began:.1f} s; about {left:.0f} s left")
    console.print(f"{len(curves)} figures in {config.output_dir}")
    return 0
