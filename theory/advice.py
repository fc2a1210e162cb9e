"""What a diagnosis comes to, in plain words."""

from collections.abc import Mapping
from typing import Any

from jsharp.stats import Interval
from theory.prices import Goal
from theory.signals import Step

SELF = "log-probability"  # the self-reward of the paper, in jsharp.reward.REWARDS
SHORT = -0.3  # a rank correlation with length below it is called a bias
FEW = 20  # prompts: a bootstrap over fewer is too narrow to claim anything by
CUT = 0.01  # a share of cut responses above it is called one


def advice(found: Mapping[str, Any], steps: list[Step], goal: Goal) -> str:
    """One paragraph: does it help, what is its limit, what does it cost, what warns."""
    parts = [
        *_about_lift(found["accuracy"], steps, found["modes"]["prompts"]),
        *_about_rewards(found["rewards"]),
        *_about_cost(found["price"], goal, steps[-1].k),
        *_about_length(found["length"], steps),
    ]
    return " ".join(parts)


def _about_lift(
    accuracy: Mapping[str, Any] | None, steps: list[Step], prompts: int
) -> list[str]:
    last = steps[-1]
    gain, best = last.over_sample, last.accuracy
    if accuracy is None or gain is None or best is None:
        return ["No answers are known, so nothing is said of accuracy."]
    parts = [
        f"{_effect(gain, prompts)}: the best of {last.k} is right on "
        f"{_percent(best)}, one draw on {_percent(accuracy['sample'])}"
        f" ({_percent(gain, '+.1f')})."
    ]
    over = last.over_greedy
    if over is not None and accuracy["greedy"] is not None:
        clear = "more" if over.low > 0 else "less" if over.high < 0 else "no clear gain"
        clear = clear if prompts >= FEW else "too few prompts to tell"
        parts.append(
            f"Over greedy decoding ({_percent(accuracy['greedy'])}) it is "
            f"{_percent(over, '+.1f')}: {clear}."
        )
    return parts + _about_limit(accuracy, prompts)


def _effect(gain: Interval, prompts: int) -> str:
    if prompts < FEW:
        count = f"{prompts} prompt{'s are' if prompts > 1 else ' is'}"
        return f"{count} too few to tell whether sharpening helps"
    says = "is not predicted to change accuracy clearly"
    if gain.low > 0:
        says = "is predicted to help"
    elif gain.high < 0:
        says = "is predicted NOT to help but to hurt"
    return f"Sharpening towards log-probability {says}"


def _about_limit(accuracy: Mapping[str, Any], prompts: int) -> list[str]:
    if accuracy["mode_here"] is None:
        return []
    low, high = accuracy["mode_here"]
    sample = accuracy["sample"]
    says = f"In the limit it answers y*, right on {100 * low:.1f}%"
    says += "" if low == high else f" to {100 * high:.1f}%"
    says += " of these prompts."
    if high < sample.low and prompts >= FEW:
        says += " The mode is LESS right than a draw: more sharpening makes it worse."
    return [says]


def _about_rewards(rewards: list[Mapping[str, Any]]) -> list[str]:
    within = {row["reward"]: row["within"] for row in rewards if row["within"]}
    own, parts = within.get(SELF), []
    if few := [row["prompts"] for row in rewards if row["prompts"] < FEW]:
        return [
            f"Prompts with both right and wrong draws: {few[0]}, too few to tell what "
            "a self-reward prefers."
        ]
    if own is None:
        return []
    if own.high < 0.5:
        parts.append(f"Within prompts {SELF} ranks WRONG above right.")
    better = [name for name, auc in within.items() if auc.low > own.high]
    if better:
        best = max(better, key=lambda name: within[name].estimate)
        parts.append(
            f"Within prompts {best} tells right from wrong better than {SELF}: AUC "
            f"{within[best].estimate:.3f} against {own.estimate:.3f}."
        )
    return parts


def _about_cost(price: Mapping[str, Any], goal: Goal, drawn: int) -> list[str]:
    low, high = price["N"]
    parts = [
        f"Best-of-N finds y* with probability {1 - goal.delta:g} on {1 - goal.eps:g} "
        f"of these prompts from N = {_between(low, high)} on, by the exact law; "
        f"adaptive stopping draws {_between(*price['E_N_adaptive'])} on average."
    ]
    if high > drawn:
        enough = "are NOT" if low > drawn else "may not be"
        parts.append(f"The pilot's {drawn} draws a prompt {enough} enough for that.")
    m = price["algorithms"][price["cheapest"]]["m"]
    parts.append(
        f"Cheapest by its guarantee: {price['cheapest']}, m = {_between(*m)} responses "
        "(the target must be in Pi)."
    )
    return parts


def _about_length(length: Mapping[str, Any], steps: list[Step]) -> list[str]:
    parts, bias = [], length["correlation"]["within"]
    enough = length["correlation"]["prompts"] >= FEW
    if bias is not None and bias.high < SHORT and enough:
        first, last = steps[0].length.estimate, steps[-1].length.estimate
        parts.append(
            f"Length bias: log-probability falls with length within prompts (rank "
            f"correlation {bias.estimate:.2f}), and the best of {steps[-1].k} has "
            f"{last:.1f} tokens where a draw has {first:.1f}: a shorter answer need "
            "not be a better one."
        )
    if length["cut"] > CUT:
        parts.append(
            f"{100 * length['cut']:.1f}% of the responses were cut at the length limit "
            "and are judged as they stand: raise --max-completion-length."
        )
    return parts


def _percent(interval: Interval, form: str = ".1f") -> str:
    shown = [format(100 * x, form) for x in interval]
    return f"{shown[0]}% [{shown[1]}, {shown[2]}]"


def _between(low: float, high: float) -> str:
    shown = [f"{x:,.0f}" if 1 <= x < 1e6 else f"{x:.3g}" for x in (low, high)]
    return shown[0] if shown[0] == shown[1] else f"{shown[0]} to {shown[1]}"
