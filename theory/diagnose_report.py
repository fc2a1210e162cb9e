"""What `jsharp diagnose` shows: tables, the verdict, and the picture of the profile."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from rich import box
from rich.console import Console
from rich.table import Table

from jsharp import files
from jsharp.stats import Interval
from theory.findings import Options
from theory.prediction import Finding

PROFILE = ("profile.csv", "profile.png")
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#555555"
_HERE = "on these prompts"
_STYLE: dict[Any, Any] = {
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def show(found: Mapping[str, Any], options: Options, directory: Path) -> None:
    """The whole report, to stdout."""
    modes, sure = found["modes"], f"{100 * (1 - options.level):g}%"
    _say(
        f"{modes['prompts']} prompts, {modes['draws']} draws each; y* is certain on "
        f"{modes['certified']} ({modes['by_search']} by search, the others since it "
        f"outweighs all that was not drawn), tied on {modes['tied']}. Bounds (from, "
        f"to) hold with {sure}. Intervals [low, high] are percentile bootstraps over "
        f"prompts: approximate, too narrow for few prompts, of width zero where all "
        f"agree."
    )
    _table("Coverage", ("", "from", "to", "holds"), _coverage_rows(found, options))
    _table("Price", ("", "from", "to", "what"), _price_rows(found["price"], options))
    columns = ("algorithm", "n", "N", "m, least", "m, at most")
    _table("Cost of the guarantee", columns, _algorithm_rows(found["price"]))
    _say(
        "All of these assume realisability: the target is in Pi. The costs of "
        "regression and XPO are optimistic: C_conc := C_cov, the least R_max. N is the "
        "least; n is only sufficient."
    )
    columns = ("best of", "accuracy, %", "over one draw", "over greedy")
    _table(
        "Lift, by log-probability", (*columns, "log pi", "tokens"), _lift_rows(found)
    )
    if found["rewards"]:
        columns = ("self-reward", "within prompts", "overall", "prompts")
        _table("AUC: right above wrong", columns, _reward_rows(found["rewards"]))
    _say(found["verdict"])
    _say(f"Written: {directory}: diagnosis.json, {', '.join(PROFILE)}")


def _coverage_rows(found: Mapping[str, Any], options: Options) -> list[tuple]:
    cover, margin, length = found["coverage"], found["margin"], found["length"]
    certain = found["modes"]["certified"] == found["modes"]["prompts"]
    here = "on these prompts" + (", exact" if certain else "")
    rows = [
        (
            "C_cov",
            *_ends(cover["C_cov"]),
            f"{here}; over mu nothing bounds it from above",
        ),
        (f"C_cov,g, g = {cover['gamma']:g}", *_ends(cover["C_cov_g"]), _HERE),
    ]
    for cut in cover["truncated"]:
        name = f"E min(1/pi(y*), {cut['most']:g})"
        rows.append((name, *_ends(cut["mu"]), "over mu, if prompts are independent"))
    rows += [
        (
            f"margin, quantile {line['share']:g}",
            *_ends((line["low"], line["high"])),
            f"{_HERE}, nats",
        )
        for line in margin["quantiles"]
    ]
    bias = length["correlation"]
    for where in ("within", "overall"):
        if (found_bias := bias[where]) is not None:
            what = f"rank correlation {found_bias.estimate:.3f}, over mu"
            ends = _ends(found_bias[1:])
            rows.append((f"log pi against length, {where}", *ends, what))
    rows.append(("share cut at the length limit", f"{length['cut']:.3g}", "", ""))
    return rows


def _price_rows(price: Mapping[str, Any], options: Options) -> list[tuple]:
    goal = options.goal
    asked = f"least: finds y* w.p. {1 - goal.delta:g} on {1 - goal.eps:g}"
    over = price["N_mu"]
    return [
        ("N", *_ends(price["N"]), f"{asked} of these prompts, exact law"),
        (
            "N over mu",
            *(_ends(over) if over else ("", "")),
            "" if over else "too few prompts for this eps and level",
        ),
        ("N of Thm 4.1", *_ends(price["N_theorem"]), "2 C_cov ln(2/delta)/eps"),
        ("E[N_mu]", *_ends(price["E_N_adaptive"]), "adaptive, mu = ln(2/delta)"),
        (
            "n of Thm 4.1",
            _number(price["n"]),
            "",
            f"sufficient; log|Pi| = {goal.log_class:g}: a guess for a transformer",
        ),
        ("beta of Thm 4.2", _number(price["beta"]), "", "at most, with this margin"),
    ]


def _algorithm_rows(price: Mapping[str, Any]) -> list[tuple]:
    rows = []
    for name, cost in price["algorithms"].items():
        shown = f"{name} <- cheapest" if name == price["cheapest"] else name
        each = " to ".join(dict.fromkeys(map(_number, cost["N"])))
        rows.append((shown, _number(cost["n"]), each, *_ends(cost["m"])))
    return rows


def _lift_rows(found: Mapping[str, Any]) -> list[tuple]:
    rows = [
        (
            str(step["k"]),
            _percent(step["accuracy"]),
            _percent(step["over_sample"], "+.1f") if step["k"] > 1 else "",
            _percent(step["over_greedy"], "+.1f"),
            f"{step['log_prob'].estimate:.3f}",
            f"{step['length'].estimate:.1f}",
        )
        for step in found["lift"]
    ]
    accuracy = found["accuracy"]
    if accuracy is None:
        return rows
    nothing = ("", "", "", "")
    if accuracy["mode_here"] is not None:
        here, mu = (
            f"{100 * low:.1f} to {100 * high:.1f}"
            for low, high in (accuracy["mode_here"], accuracy["mode"])
        )
        rows.append(("limit: y*", f"{here}; mu: {mu}", *nothing))
    rows.append(("greedy", _percent(accuracy["greedy"]), *nothing))
    rows.append(("any is right", _percent(accuracy["any"]), *nothing))
    return rows


def _reward_rows(rewards: Iterable[Mapping[str, Any]]) -> list[tuple]:
    return [
        (
            row["reward"],
            *(_interval(row[where], ".3f") for where in ("within", "overall")),
            str(row["prompts"]),
        )
        for row in rewards
    ]


def show_check(
    findings: Sequence[Finding], draws: int, prompts: int, matched: int | None
) -> None:
    """Predicted against measured; `matched` prompts have hits, None: other prompts."""
    rows = [
        (
            finding.name,
            _interval(finding.predicted, ".4g"),
            _interval(finding.measured, ".4g"),
            finding.outcome,
        )
        for finding in findings
    ]
    title = f"One draw of the sharpened model, as best of {draws} of the base"
    _table(title, ("", "predicted", "measured", "outcome"), rows)
    if matched is None:
        _say(
            "other prompts: the questions are not those that were diagnosed, or marked "
            "otherwise. hits are not matched; the prediction is for the others."
        )
        return
    _say(
        f"hits are over {matched} of {prompts} prompts: where y* is certain, not tied."
    )


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for i, column in enumerate(columns):
        words = column in ("holds", "what", "outcome")
        table.add_column(column, justify="left" if words or not i else "right")
    for row in rows:
        table.add_row(*row)
    # A number is never cut to fit: a narrow terminal wraps the line instead.
    Console(markup=False, highlight=False, width=10_000).print(table)


def _say(message: str) -> None:
    Console(markup=False, highlight=False).print(message, soft_wrap=True)


def _number(value: float) -> str:
    if value >= 1e300:
        return "no bound"
    if 1e3 <= value < 1e7:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _ends(pair: Sequence[float]) -> tuple[str, str]:
    return _number(pair[0]), _number(pair[1])


def _interval(interval: Interval | None, form: str, scale: float = 1.0) -> str:
    if interval is None:
        return ""
    shown = [format(scale * x, form) for x in interval]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"


def _percent(interval: Interval | None, form: str = ".1f") -> str:
    return _interval(interval, form, 100.0)


# ---- The picture


def draw(directory: Path, found: Mapping[str, Any]) -> None:
    """profile.csv, and profile.png: the coverage profile beside the lift."""
    profile = found["coverage"]["profile"]
    buffer = io.StringIO(newline="")
    rows = csv.writer(buffer, lineterminator="\n")
    rows.writerow(["M", *list(profile)[1:]])
    rows.writerows(zip(*(x.tolist() for x in profile.values()), strict=True))
    files.write_text(directory / PROFILE[0], buffer.getvalue())
    with plt.rc_context(_STYLE):
        width = 1 if found["accuracy"] is None else 2
        figure, axes = plt.subplots(1, width, figsize=(5.4 * width, 4), squeeze=False)
        _draw_profile(axes[0, 0], profile, found["modes"])
        if found["accuracy"] is not None:
            _draw_lift(axes[0, 1], found["lift"], found["accuracy"])
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=120, metadata={"Software": None})
        plt.close(figure)
    files.write_bytes(directory / PROFILE[1], picture.getvalue())


def _draw_profile(axis: Axes, profile, modes: Mapping[str, int]) -> None:
    at = profile["threshold"]
    axis.fill_between(
        *(at, profile["band_low"], profile["band_high"]),
        lw=0,
        color=_GREY,
        alpha=0.15,
        label="over the prompts' law",
    )
    axis.fill_between(
        *(at, profile["low"], profile["high"]),
        lw=0,
        color=_BLUE,
        alpha=0.35,
        label="these prompts, not excluded",
    )
    axis.plot(at, profile["high"], color=_BLUE, label="upper bound")
    axis.axvline(modes["draws"], color=_ORANGE, ls="--", lw=1, label="N of the pilot")
    axis.set(xscale="log", xlabel="M", ylabel="share of prompts, 1/pi(y*|x) >= M")
    axis.set_ylim(-0.02, 1.02)
    axis.set_title("Coverage profile", fontsize=10)
    axis.legend(fontsize=8)


def _draw_lift(axis: Axes, lift, accuracy: Mapping[str, Any]) -> None:
    k = [step["k"] for step in lift]
    value, low, high = zip(*(step["accuracy"] for step in lift), strict=True)
    axis.fill_between(k, low, high, color=_BLUE, alpha=0.2, lw=0)
    axis.plot(k, value, color=_BLUE, marker="o", ms=4, label="best of N by log pi")
    if accuracy["greedy"] is not None:
        level = accuracy["greedy"].estimate
        axis.axhline(level, color=_ORANGE, ls="--", lw=1, label="greedy")
    if accuracy["mode_here"] is not None:
        ends = accuracy["mode_here"]
        axis.axhspan(*ends, color=_GREY, alpha=0.15, lw=0)
        axis.axhline(ends[0], color=_GREY, ls=":", lw=1, label="y*: between")
        axis.axhline(ends[1], color=_GREY, ls=":", lw=1)
    axis.set_xscale("log", base=2)
    axis.set_xticks(k, [str(x) for x in k])
    axis.minorticks_off()
    axis.set(xlabel="N", ylabel="accuracy")
    axis.set_title("Accuracy against N", fontsize=10)
    axis.legend(fontsize=8)
