"""One self-contained HTML page from a demo's result files: no script, no address."""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments import files

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; text-align: left;
         vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums;
            white-space: nowrap; }
figure { margin: 1.5rem 0; } figcaption { color: #555; }
img { max-width: min(100%, 46rem); }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: 13px; }
.holds { color: #006837; } .fails { color: #a50026; } .undecided { color: #8a6d00; }
"""

CAPTIONS = {
    "accuracy": "Accuracy of each way of picking one of N responses. Coverage (is any "
    "of the N correct?) needs the answers: a skyline, not a self-reward.",
    "best-of-k": "Best of k by log pi_base, for every k by the exact order-statistics "
    "estimator over the N samples (no subsampling). The band is over prompts.",
    "log-prob": "Sequence log-probability under the base model: correct responses are "
    "the likelier ones, which is why sharpening can help here.",
    "training": "SFT-sharpening: what was selected, what it was selected from, and the "
    "likelihood that the trained model gives it before each step's update.",
    "queries": "Queries that the exact laws of best-of-N need for an (eps, delta)-"
    "sharpened policy on the worst-case instances of constant coverage.",
}


def cell(value: Any, kind: str = "") -> str:
    return f'<td class="{kind}">{html.escape(str(value))}</td>'


def table(head: Sequence[str], rows: Iterable[str]) -> str:
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def figure(directory: Path, name: str) -> str:
    data = base64.b64encode((directory / f"{name}.png").read_bytes()).decode()
    caption = html.escape(CAPTIONS[name])
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def claims(records: list[dict[str, Any]]) -> str:
    head = (
        "claim",
        "statement",
        "known",
        "verdict",
        "left/right",
        "tried",
        "level",
        "twins",
    )

    def row(r: dict[str, Any]) -> str:
        twins = r["twins"].values()
        kept = sum(twin["outcome"] == twin["expected"] for twin in twins)
        known = cell(r["expected"]) + cell(r["outcome"], r["outcome"])
        numbers = (
            f"{float(r['tightness']):.4g}",
            r["instances"],
            f"{r['level']:.0e}" if r["level"] else "exact",
            f"{kept}/{len(twins)}",
        )
        return (
            cell(r["claim"])
            + cell(r["statement"])
            + known
            + "".join(cell(number, "number") for number in numbers)
        )

    return table(head, map(row, records))


def percent(interval: Sequence[float]) -> str:
    estimate, low, high = (100 * value for value in interval)
    return f"{estimate:.1f} [{low:.1f}, {high:.1f}]"


def comparison(metrics: dict[str, Any]) -> str:
    head = ("policy", "picked by", "accuracy %", "minus greedy, points", "log pi_base")
    return table(
        head,
        (
            cell(policy)
            + cell(row["name"])
            + cell(percent(row["accuracy"]), "number")
            + cell(percent(row["lift_over_greedy"]), "number")
            + cell(
                "" if row["log_prob"] is None else f"{row['log_prob']:.2f}", "number"
            )
            for policy in ("base", "sharpened")
            for row in metrics[policy]
        ),
    )


def gains(metrics: dict[str, Any]) -> str:
    rows = (
        cell(name) + cell("{:+.3f} [{:+.3f}, {:+.3f}]".format(*gain), "number")
        for name, gain in metrics["gain"].items()
    )
    return table(("sharpened minus base, paired over prompts", "gain"), rows)


def responses(results: Path, prompts: int = 2) -> str:
    """The likeliest three responses to the first prompts, as an eye-opener."""
    records = list(files.read_lines(results / "responses-base.jsonl"))
    rows = []
    for prompt in range(prompts):
        some = [r for r in records if r["prompt_id"] == prompt and r["sample_id"] >= 0]
        for r in sorted(some, key=lambda r: -r["log_prob"])[:3]:
            mark = "correct" if r["correct"] else "wrong"
            number = cell(f"{r['log_prob']:.2f}", "number")
            rows.append(cell(r["prompt"]) + cell(r["response"]) + number + cell(mark))
    return table(("prompt", "response", "log pi_base", ""), rows)


def write(path: Path, results: Path) -> None:
    """The page of `results`, with every figure inside it."""
    made = files.read_json(results / "config.json")
    metrics = files.read_json(results / "metrics.json")
    draw = lambda name: figure(results / "figures", name)
    level = 100 * (1 - metrics["level"])
    body = f"""
<h1>Sharpening, the paper running</h1>
<p>A model's own log-likelihood as the reward: self-improvement in the sense of
Huang et al. (arXiv 2412.01951), checked numerically and carried out on a small
transformer that was trained from scratch. Intervals are {level:.0f}% bootstrap
intervals over prompts.</p>
<h2>The theorems, attacked</h2>
<p>Each claim is read as left &le; right and attacked over structured, random and
gradient-searched instances; left/right is the tightest found. Statements that fail as
printed stay, with their counterexample, beside the repaired claim. Twins are planted
bugs that the same check must catch.</p>
{claims(files.read_json(results / "claims.json"))}
<h2>Best of N on held-out prompts</h2>
{comparison(metrics)}
{draw("accuracy")}{draw("best-of-k")}{draw("log-prob")}
<h2>The likeliest responses</h2>
{responses(results)}
<h2>SFT-Sharpening</h2>
{gains(metrics)}
{draw("training")}
<h2>How many queries it takes</h2>
{draw("queries")}
<h2>How this page was made</h2>
<pre>{html.escape(str(made))}</pre>
"""
    files.write_text(
        path,
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>jsharp demo</title><style>{STYLE}</style></head>"
        f"<body>{body}</body></html>\n",
    )
