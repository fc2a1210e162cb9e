"""One self-contained HTML page from a demo's result files: no script, no address."""

import base64
import html
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsharp import files

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid #ddd; text-align: left;
         vertical-align: top; }
.number { text-align: right; }
td.number { font-variant-numeric: tabular-nums;
            white-space: nowrap; }
figure { margin: 1.5rem 0; } figcaption { color: #555; }
img { max-width: 100%; }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: 13px; }
.holds { color: #006837; } .fails { color: #a50026; } .undecided { color: #8a6d00; }
"""

CAPTIONS = {
    "accuracy": "Accuracy of greedy decoding, of one sample, and of the best of N by "
    "each self-reward; ties share their weight. Coverage (is any of the N correct?) "
    "needs the answers: a skyline, not a self-reward.",
    "best-of-k": "Best of k by log pi_base, for every k by the exact order-statistics "
    "estimator over the N samples (no subsampling). Left: accuracy, with its interval "
    "over prompts. Right: the log-probability of the picked response.",
    "log-prob": "Log-probability under the base model of correct and of incorrect "
    "samples, pooled over prompts; each histogram has area 1.",
    "training": "SFT-sharpening: what was selected, what it was selected from, and the "
    "likelihood that the trained model gives it before each step's update.",
    "queries": "Queries m = n N that suffice for an (eps, delta)-sharpened policy on "
    "hard instances of constant coverage: n from the proof, N (fixed) or E[N_mu] "
    "(adaptive) from the exact law. Lines have the theorems' slopes; the legend has "
    "the points' fitted slopes.",
}


def table(columns: Mapping[str, str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; `columns` maps each heading to its kind: "", "number" or "verdict"."""

    def cell(tag: str, kind: str, value: Any) -> str:
        text = html.escape(str(value))
        # A verdict is coloured by what it says.
        return f'<{tag} class="{text if kind == "verdict" else kind}">{text}</{tag}>'

    def row(tag: str, values: Iterable[Any]) -> str:
        cells = zip(columns.values(), values, strict=True)
        return f"<tr>{''.join(cell(tag, kind, value) for kind, value in cells)}</tr>"

    body = "".join(row("td", values) for values in rows)
    head = row("th", columns)
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def figure(directory: Path, name: str) -> str:
    data = base64.b64encode((directory / f"{name}.png").read_bytes()).decode()
    caption = html.escape(CAPTIONS[name])
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def claims(records: list[dict[str, Any]]) -> str:
    def row(r: dict[str, Any]) -> tuple[Any, ...]:
        twins = r["twins"].values()
        kept = sum(twin["outcome"] == twin["expected"] for twin in twins)
        return (
            r["claim"],
            r["statement"],
            r["expected"],
            r["outcome"],
            f"{float(r['tightness']):.4g}",
            r["instances"],
            f"{r['level']:.0e}" if r["level"] else "exact",
            f"{kept}/{len(twins)}",
        )

    numbers = dict.fromkeys(("left/right", "tried", "level", "twins"), "number")
    columns = {"claim": "", "statement": "", "known": "", "verdict": "verdict"}
    return table(columns | numbers, map(row, records))


def percent(interval: Sequence[float], sign: str = "") -> str:
    estimate, low, high = (f"{100 * value:{sign}.1f}" for value in interval)
    return f"{estimate} [{low}, {high}]"


def comparison(metrics: dict[str, Any]) -> str:
    rows = (
        (
            policy,
            row["name"],
            percent(row["accuracy"]),
            percent(row["lift_over_greedy"], "+"),
            "" if row["log_prob"] is None else f"{row['log_prob']:.2f}",
        )
        for policy in ("base", "sharpened")
        for row in metrics[policy]
    )
    numbers = ("accuracy, %", "minus greedy, points", "log pi_base, nats")
    columns = {"policy": "", "picked by": ""} | dict.fromkeys(numbers, "number")
    return table(columns, rows)


def gains(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """What sharpening changed, in words: name and value with unit and interval."""
    gain = metrics["gain"]
    nats = "{:+.2f} [{:+.2f}, {:+.2f}] nats".format(*gain["one sample, log pi_base"])
    points = lambda name: f"{percent(gain[name], '+')} points"
    return [
        *((name, points(name)) for name in gain if name.endswith("accuracy")),
        ("one sample, log pi_base", nats),
    ]


def responses(results: Path, prompts: int = 3, each: int = 3) -> str:
    """The likeliest distinct responses to the first prompts, with how often drawn."""
    records = list(files.read_lines(results / "responses-base.jsonl"))
    rows = []
    for prompt in range(prompts):
        some = [r for r in records if r["prompt_id"] == prompt and r["sample_id"] >= 0]
        drawn = Counter(r["response"] for r in some)
        distinct = {r["response"]: r for r in some}.values()
        for r in sorted(distinct, key=lambda r: -r["log_prob"])[:each]:
            mark = "correct" if r["correct"] else "wrong"
            times = f"{drawn[r['response']]} of {len(some)}"
            rows.append(
                (r["prompt"], r["response"], f"{r['log_prob']:.2f}", times, mark)
            )
    numbers = dict.fromkeys(("log pi_base, nats", "drawn"), "number")
    return table({"prompt": "", "response": ""} | numbers | {"": ""}, rows)


def write(path: Path, results: Path) -> None:
    """The page of `results`, with every figure inside it."""
    names = ("config.json", "surroundings.json")
    made = {name: files.read_json(results / name) for name in names}
    metrics = files.read_json(results / "metrics.json")
    draw = lambda name: figure(results / "figures", name)
    level = 100 * (1 - metrics["level"])
    body = f"""
<h1>Sharpening, the paper running</h1>
<p>A model's own log-likelihood as the reward: self-improvement in the sense of
Huang et al. (arXiv 2412.01951), checked numerically and carried out on a small
transformer that was trained from scratch. Intervals of accuracies and log-probabilities
are {level:.0f}% bootstrap intervals over prompts.</p>
<h2>The theorems, attacked</h2>
<p>Each claim is read as left &le; right and attacked over structured, random and
gradient-searched instances, as many as were tried; left/right is the tightest found,
level the probability that chance alone decided. "Known" is the outcome that it should
have: a statement that is false as printed must fail, and its repair must hold. Twins
are planted bugs that the same check must catch, and controls that it must keep.
<code>jsharp verify --out FOLDER</code> writes each tightest instance as a file.</p>
{claims(files.read_json(results / "claims.json"))}
<h2>Best of N on held-out prompts</h2>
{comparison(metrics)}
{draw("accuracy")}{draw("best-of-k")}{draw("log-prob")}
<h2>The likeliest responses</h2>
{responses(results)}
<h2>SFT-Sharpening</h2>
{table({"sharpened minus base, paired": "", "gain": "number"}, gains(metrics))}
{draw("training")}
<h2>How many queries it takes</h2>
{draw("queries")}
<h2>How this page was made</h2>
<pre>{html.escape(json.dumps(made, indent=1))}</pre>
"""
    files.write_text(
        path,
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>jsharp demo</title><style>{STYLE}</style></head>"
        f"<body>{body}</body></html>\n",
    )
