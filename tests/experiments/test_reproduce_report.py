"""The results page: complete, alone, true to its files."""

import base64
import json
import re

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pytest
from read_page import Page

from experiments.reproduce import report, store, tables
from experiments.reproduce.experiment import Check, Experiment
from jsharp import files


def run(name, seconds, commit="aaa", **more):
    return {
        "command": f"jsharp evaluate {name}",
        "seconds": seconds,
        "resumed": False,
        "commit": commit,
        "versions": {"python": "3", "jax": "0.10"},
        "device": "cpu (toy)",
        **more,
    }


def recipe(greedy):
    accuracies = {"greedy": greedy, "one_sample": 0.2, "best_of_n": 0.3}
    return {
        "command": "jsharp pretrain --seed 0",
        "step": 4000,
        "parameters": 104576,
        "training_seconds": 163,
        "held_out": {"game24": {"prompts": 8, "n": 4, **accuracies, "coverage": 0.4}},
        "commit": "bbb",
        "device": "cpu (toy)",
    }


def experiment(name, paper=""):
    """Agrees where the number is above 1, does not below, cannot tell at 1."""

    def judge(found):
        x = found["x"]
        rule = "x above 1 | below"
        return [
            Check(f"{name} <b> Y*(x)|x", None if x == 1 else x > 1, rule, f"x = {x}")
        ]

    def draw(found):
        figure, axis = plt.subplots(figsize=(1, 1))
        axis.plot([0, found["x"]])
        return {name: figure, f"{name}-b": figure}

    tell = lambda found: tables.markdown([{"x": float(found["x"]), "of": "a|b"}])
    title = f"title, of {name}: *"
    return Experiment(name, title, paper, lambda c: [], lambda c: {}, draw, tell, judge)


FIG1, FIG10, OTHER = (
    experiment("fig1", "Figure 1"),
    experiment("fig10"),
    experiment("c"),
)
NAMES = ["fig1", "fig10", "c"]
RUNS = {
    "fig1": [run("shared", 100.0), run("own", 30.0, resumed=True)],
    "fig10": [run("shared", 100.0), run("late", 3600.0, commit="bbb-dirty")],
}


def fill(directory, each, x, bases=None):
    content = {"command": f"jsharp reproduce {each.name}", "found": {"x": x}}
    surroundings = {k: v for k, v in run("", 0.0).items() if k != "seconds"}
    made = {"runs": RUNS[each.name], "bases": bases or {}, "measuring_seconds": 1.0}
    store.write(directory, each.name, content, {**surroundings, **made}, NAMES)
    drawn = each.draw({"x": x})
    store.save(directory, each.name, drawn, NAMES)
    plt.close("all")


@pytest.fixture
def full(tmp_path, monkeypatch):
    """Two experiments that were run, of three, beside older files."""
    monkeypatch.setattr(report, "EXPERIMENTS", (FIG1, FIG10, OTHER))
    fill(tmp_path, FIG1, 2, {"small": recipe(0.1), "medium": recipe(0.5)})
    fill(tmp_path, FIG10, 0, {"small": recipe(0.1)})
    (tmp_path / "results" / "sharpening.json").write_text("not of a name that is known")
    (tmp_path / "figures" / "sharpening.png").write_text("nor this")
    report.write(tmp_path)
    return tmp_path


@pytest.fixture
def page(full):
    return Page((full / "results.html").read_text())


@pytest.fixture
def text(full):
    return (full / "results.md").read_text()


def section(text, heading):
    return text.split(f"\n## {heading}", 1)[1].split("\n## ", 1)[0]


def test_the_page_stands_alone(page, full):
    source = (full / "results.html").read_text()
    assert not {"script", "link", "iframe", "b"} & set(page.tags)
    assert "http:" not in source and "https:" not in source
    images = [
        base64.b64decode(s.removeprefix("data:image/png;base64,")) for s in page.sources
    ]
    names = ["fig1", "fig1-b", "fig10", "fig10-b"]
    assert images == [(full / "figures" / f"{n}.png").read_bytes() for n in names]
    assert page.links and {link[1:] for link in page.links} <= set(page.ids)
    assert all(link.startswith("#") for link in page.links)


def test_links_in_the_markdown_are_relative_and_lead_somewhere(text, full):
    targets = re.findall(r"\]\(([^)]+)\)", text)
    figures = [t for t in targets if not t.startswith("#")]
    assert len(figures) == 4 and all((full / t).is_file() for t in figures)


def test_what_was_not_run_is_said(text):
    assert "Not run: c." in text and "sharpening.json" not in text


def test_what_agrees_is_of_the_numbers(full, text):
    counted = "1 with 'agrees', 1 with 'does not agree', 0 with 'cannot tell'"
    assert f"Of 2 statements: {counted}." in text
    fill(full, FIG1, 1)
    report.write(full)
    assert (
        "0 with 'agrees', 1 with 'does not agree', 1 with 'cannot tell'"
        in (full / "results.md").read_text()
    )


def test_every_judgement_is_a_row(page):
    rows = [[cell[1] for cell in row] for row in page.rows]
    assert ["statement", "verdict", "rule", "evidence", "in"] in rows
    rule = "x above 1 | below"
    for name, verdict, x in (("fig1", "agrees", 2), ("fig10", "does not agree", 0)):
        assert [f"{name} <b> Y*(x)|x", verdict, rule, f"x = {x}", name] in rows
    kinds = {cell for row in page.rows for cell in row}
    assert ("holds", "agrees") in kinds and ("fails", "does not agree") in kinds


def test_a_base_is_told_once(text, page):
    rows = [[cell[1] for cell in row] for row in page.rows if row[0][1] == "small"]
    assert rows == [
        ["small", "104576", "game24", "10.0", "20.0", "30.0", "40.0"]
        + ["4", "4000", "2 min 43 s", "bbb", "cpu (toy)"]
    ]
    assert "# small\njsharp pretrain --seed 0\n# medium\n" in text


def test_a_shared_run_is_counted_once_and_said(text):
    made = section(text, "How it was made")
    assert "3 runs, 1 h 02 min in all" in made  # 100 + 30 + 3600 s
    stopped = "(of 1 that was stopped on the way, the time of the last process alone)"
    assert stopped in made
    found = section(text, "fig1: ")
    assert "2 runs, 2 min 10 s in all" in found
    assert "1 of them, 1 min 40 s, shared with fig10." in found


def test_an_experiment_that_shares_nothing_is_not_named(tmp_path, monkeypatch):
    monkeypatch.setitem(RUNS, "c", [run("alone", 5.0)])
    monkeypatch.setattr(report, "EXPERIMENTS", (FIG1, FIG10, OTHER))
    for each in (FIG1, FIG10, OTHER):
        fill(tmp_path, each, 2)
    report.write(tmp_path)
    text = (tmp_path / "results.md").read_text()
    assert "shared with fig10." in section(text, "fig1: ")
    assert "1 run, 5.0 s in all. They" in section(text, "c: ")


def test_every_commit_is_listed(text):
    made = section(text, "How it was made")
    assert "**Not all at one commit**: aaa, bbb-dirty." in made and "in none" in made
    assert "| aaa | cpu (toy) | 2 | 2 |" in made
    assert "| bbb-dirty | cpu (toy) | 1 | 0 |" in made
    assert "at commit aaa, bbb-dirty on cpu (toy)" in section(text, "fig10: ")
    assert "- python 3, jax 0.10" in made


def test_one_commit_is_no_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "EXPERIMENTS", (FIG1,))
    fill(tmp_path, FIG1, 2)
    report.write(tmp_path)
    found = section((tmp_path / "results.md").read_text(), "How it was made")
    assert "Not all" not in found and "in none" not in found


def test_an_experiment_is_told_whole(text):
    found = section(text, "fig1: ")
    assert "Figure 1 of the paper." in found and "| 2 | a\\|b |" in found
    assert "```\njsharp reproduce fig1\n```" in found
    assert "- **agrees**: fig1" in found and "Found: x = 2." in found
    assert "Not in the paper." in section(text, "fig10: ")


def test_nothing_was_run(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "EXPERIMENTS", (FIG1, OTHER))
    report.write(tmp_path)
    text = (tmp_path / "results.md").read_text()
    assert "Not run: fig1, c." in text and "No experiment that judges" in text
    Page((tmp_path / "results.html").read_text())


def rewrite(directory, found=None, run=None):
    """fig1 with other numbers, and another first run, of another version."""
    path = directory / "results" / "fig1.json"
    content = files.read_json(path)
    made = files.read_json(path.with_name("fig1.made.json"))
    made["runs"][:1] = [run or made["runs"][0]]
    content["found"] = found or content["found"]
    store.write(directory, "fig1", content, made, NAMES)


UNKNOWN = {k: v for k, v in RUNS["fig1"][0].items() if k != "resumed"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"found": {"y": 2}}, "KeyError: 'x'"),
        ({"found": {"x": "2"}}, "TypeError: "),
        ({"found": {"x": [], "y": 0}}, "TypeError: "),
        ({"run": UNKNOWN}, "KeyError: 'resumed'"),
    ],
)
def test_numbers_of_another_version_are_not_shown(full, change, why):
    rewrite(full, **change)
    (said,) = report.write(full)
    assert said.startswith("fig1: ")
    assert f"fig1.json: not what this version of fig1 reads ({why}" in said
    text = (full / "results.md").read_text()
    assert "Not shown: fig1: " in text and "Not run: c." in text
    assert "## fig10: " in text and "## fig1: " not in text


def test_numbers_that_were_changed_by_hand_are_not_shown(full):
    path = full / "results" / "fig1.json"
    path.write_text(path.read_text().replace('"x": 2', '"x": 3'))
    (said,) = report.write(full)
    assert "fig1.json: expected the numbers that" in said
    assert "## fig1: " not in (full / "results.md").read_text()


def test_new_numbers_have_no_old_figure(full):
    rewrite(full, {"x": 5})
    assert {p.name for p in (full / "figures").iterdir()} == {
        *("fig1.undrawn", "sharpening.png"),
        *(f"fig10{part}.{kind}" for part in ("", "-b") for kind in ("png", "svg")),
    }
    assert report.write(full) == []
    text = (full / "results.md").read_text()
    command = "`jsharp reproduce fig1 --report-only` draws it."
    assert f"No figure: drawing failed or was stopped; {command}" in text
    assert "No figure" not in section(text, "fig10: ")
    Page((full / "results.html").read_text())


def test_an_experiment_without_figures_lacks_none(full):
    rewrite(full)
    store.save(full, "fig1", {}, NAMES)
    report.write(full)
    text = section((full / "results.md").read_text(), "fig1: ")
    assert "No figure" not in text and "![" not in text


def test_the_intervals_are_said_to_be_of_a_level(text):
    assert "at 95%, by bootstrap over prompts" in " ".join(text.split())


def test_numbers_do_not_say_when_they_were_made(full):
    content = json.loads((full / "results" / "fig1.json").read_text())
    assert content.keys() == {"command", "found"}


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        ("fig1", "fig1"),
        ("fig1a", "fig1"),
        ("fig1-lift", "fig1"),
        ("fig10", "fig10"),
        ("fig10b", "fig10"),
        ("fig12", None),
        ("curve", "c"),
        ("sharpening", None),
    ],
)
def test_whose_a_figure_is(figure, expected):
    assert store.owner(figure, NAMES) == expected


def test_a_figure_is_of_the_longest_name():
    assert store.owner("failure-modes-1", ["failure", "failure-modes"]) == (
        "failure-modes"
    )


def test_a_figure_that_is_no_longer_drawn_goes(full):
    one = {"fig1": plt.figure(figsize=(1, 1))}
    store.save(full, "fig1", one, NAMES)
    plt.close("all")
    left = {p.name for p in (full / "figures").iterdir()}
    assert left == {"fig1.png", "fig1.svg", "fig10.png", "fig10.svg"} | {
        *("fig10-b.png", "fig10-b.svg", "sharpening.png")
    }


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (4.24, "4.2 s"),
        (59.96, "1 min 00 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (7620, "2 h 07 min"),
    ],
)
def test_durations(seconds, expected):
    assert report.duration(seconds) == expected
