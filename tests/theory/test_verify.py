"""`jsharp verify`: every claim as known, every twin caught, witnesses that replay."""

import dataclasses
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

import theory
from jsharp.stats import Slope
from theory import verify
from theory.claim import FALSE_ALARM, Exponent
from theory.verdicts import exponents, markdown, record, table
from theory.verify import CLAIMS, main, record_name, run, select
from theory.witness import load, replay, save

FALSE_AS_PRINTED = {
    "Thm 3.1",
    "Thm 3.1' (non-adaptive)",
    "Thm 3.1' (adaptive)",
    "Thm D.2",
    "Lem H.1",
    "Lem H.4",
    "Lem F.2",
    "Thm 4.1 (total)",
    "Thm D.1 (queries)",
    "Thm D.1 (total)",
    "Lem 4.1'",
    "Lem J.1",
    "Lem J.3",
    "Lem J.3 (beta > 1)",
    "Thm 4.2'",
    "Thm 4.2' (margin)",
    "Thm 4.2' (mass)",
    "Thm 4.2",
    "Thm 4.2 (margin)",
    "Thm J.1",
    "Thm J.1 (SEC < 1)",
    "Thm 4.3",
    "Thm 4.3 (mass)",
    "Thm J.3",
    "Lem J.4",
    "Lem J.5 (any base)",
    "Prop E.2 (text)",
}


IDS = [claim.id for claim in CLAIMS]


def examined(*names):
    with jax.numpy_dtype_promotion("strict"):
        return run(0, select(names))


def cells(line):
    """The cells of one row of a Markdown table."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def readme_rows():
    readme = Path(theory.__file__).parents[1] / "README.md"
    block = readme.read_text("utf-8").split("<!-- claims -->\n")[1]
    return block.split("<!-- end of claims -->")[0].splitlines()


@pytest.mark.parametrize("id", IDS)
def test_a_claim(id, tmp_path):
    """One examination, everything that must be true of it; one test, so that parallel
    workers examine each claim once."""
    report = next(r for r in examined(id) if r.claim.id == id)
    comes_out_as_known(report)
    replays_from_its_file(report, tmp_path / "witness.npz")
    agrees_with_the_exact_road(report)
    is_the_row_of_the_readme(report)


def comes_out_as_known(report):
    id = report.claim.id
    assert report.verdict.outcome == ("fails" if id in FALSE_AS_PRINTED else "holds")
    assert report.claim.twins, "a claim without a twin shows no power"
    for twin in report.claim.twins:
        assert report.twins[twin.name].outcome == twin.expected, twin.name
    for rate in report.exponents:
        assert rate.agrees, rate
    assert report.as_expected


def replays_from_its_file(report, path):
    verdict = report.verdict
    save(path, report.claim.id, verdict)
    saved = load(path)
    assert saved.claim_id == report.claim.id
    assert replay(report.claim, saved.witness) == (verdict.left, verdict.right)
    assert (saved.left, saved.right) == (verdict.left, verdict.right)


def agrees_with_the_exact_road(report):
    claim, verdict = report.claim, report.verdict
    assert claim.exact is not None or claim.expected == "holds"
    if claim.exact is not None:
        left, right = claim.exact(verdict.witness)
        assert left > right or claim.expected == "holds"
        assert verdict.left == pytest.approx(float(left), rel=1e-9)
        assert verdict.right == pytest.approx(float(right), rel=1e-9)


def is_the_row_of_the_readme(report):
    """Words, verdict and counts are equal; tightness may differ in its last digit."""
    wanted = cells(markdown([record(report)]).splitlines()[-1])
    found = next(row for row in map(cells, readme_rows()) if row[0] == wanted[0])
    tightness = float(found.pop(3)), float(wanted.pop(3))
    assert found == wanted
    assert tightness[0] == pytest.approx(tightness[1], rel=0.02)


def test_the_readme_has_a_row_for_each_claim():
    assert [cells(row)[0] for row in readme_rows()[2:]] == IDS


def test_each_statement_that_is_false_has_its_repair_and_its_erratum():
    assert {c.id for c in CLAIMS if c.expected == "fails"} == FALSE_AS_PRINTED
    repaired = {claim.repairs for claim in CLAIMS if claim.repairs}
    assert repaired <= FALSE_AS_PRINTED
    paper_id = lambda id: id.split(" (")[0]
    # One repair may answer for several readings of the same statement.
    assert set(map(paper_id, repaired)) == set(map(paper_id, FALSE_AS_PRINTED))
    text = Path(theory.__file__).with_name("errata.md").read_text(encoding="utf-8")
    text = text.split("## Remarks")[0]
    headings = re.findall(r"^## (.*), ", text, flags=re.MULTILINE)
    named = {id for heading in headings for id in re.split(", | and ", heading)}
    # The sign of Alg 1 is no inequality; Asm J.2 is judged by Thm 4.2' (mass).
    assert named == {"Alg 1", "Asm J.2", *map(paper_id, FALSE_AS_PRINTED)}


PAPER = """Prop 3.1|Thm 3.1|Thm 3.1'|Lem H.1|Lem H.2|Lem H.3|Lem H.4|Thm D.2|Lem F.1
Lem F.2|Lem F.3|Cor F.1|Thm 4.1'|Thm 4.1|Prop C.1|Lem I.1|Thm D.1|Lem 4.1|Lem 4.1'
Lem J.1|Lem J.2|Lem J.3|Thm 4.2'|Thm 4.2|Thm J.1|Thm 4.3|Lem J.4|Lem J.5|Thm J.3
Ex J.1|Prop E.1|Prop E.2"""


def test_every_row_of_the_paper_is_there():
    rows = PAPER.replace("\n", "|").split("|")
    assert len(rows) == 32
    assert {claim.paper_id for claim in CLAIMS} == set(rows)
    assert len(set(IDS)) == len(IDS)
    assert len({record_name(claim) for claim in CLAIMS}) == len(IDS)


def test_a_number_of_the_paper_selects_its_parts_and_no_other():
    assert [c.id for c in select(["Lem 4.1"])] == ["Lem 4.1", "Lem 4.1 (loss)"]
    assert [c.id for c in select(["Lem 4.1' (repaired)"])] == ["Lem 4.1' (repaired)"]
    assert select([]) == CLAIMS
    with pytest.raises(ValueError, match="found 'Lem 9.9'"):
        select(["Prop 3.1", "Lem 9.9"])


def test_a_claim_alone_finds_what_it_finds_among_others():
    (alone,) = examined("Lem F.1 (32 members)")
    together = next(r for r in examined("Lem F.1", "Lem H.1") if r.claim == alone.claim)
    np.testing.assert_array_equal(
        alone.verdict.witness["members"], together.verdict.witness["members"]
    )


def test_records_are_json_and_the_table_fits_a_terminal():
    rate = Exponent("log m against log(2/delta)/delta", 2.0, "at most", Slope(1, 0, 2))
    reports = examined("Lem H.1")
    rows = [record(report._replace(exponents=(rate,))) for report in reports]
    rows = [rows[0] | {"claim": id} for id in IDS]
    text = json.dumps(rows, allow_nan=False)
    assert [row["claim"] for row in json.loads(text)] == IDS
    console = Console(width=80)
    with console.capture() as shown:
        console.print(table(rows))
        console.print(exponents(rows[:1]))
    assert all(id.split(" (")[0] in shown.get() for id in IDS)
    assert "1.000 (0.000 to" in shown.get() and "…" not in shown.get()


def test_the_command_writes_json_and_witnesses_that_it_replays(tmp_path, capsys):
    args = ["--claims", "Prop 3.1 (tight)", "Lem H.1", "--json", "--out", str(tmp_path)]
    assert main(args) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == json.loads((tmp_path / "verify.json").read_text(encoding="utf-8"))
    assert shown["as_expected"] and shown["config"]["seed"] == 0
    outcomes = {row["claim"]: row["outcome"] for row in shown["claims"]}
    assert outcomes == {
        "Prop 3.1 (tight)": "holds",
        "Lem H.1": "fails",
        "Lem H.1 (repaired)": "holds",
    }
    assert main(["--replay", str(tmp_path / "lem_h_1.npz")]) == 0
    assert capsys.readouterr().out.endswith("the same\n")


def test_a_witness_whose_sides_have_changed_is_an_error_status(tmp_path, capsys):
    (report,) = run(0, select(["Prop 3.1 (tight)"]))
    path = tmp_path / "changed.npz"
    save(path, report.claim.id, report.verdict._replace(left=0.25))
    assert main(["--replay", str(path)]) == 1
    assert "NOT the same" in capsys.readouterr().out
    save(path, "Lem 9.9", report.verdict)
    assert main(["--replay", str(path)]) == 2
    assert "changed.npz: expected a claim's id" in capsys.readouterr().err


def test_all_intervals_together_keep_the_false_alarm_budget():
    reports = examined(*(claim.id for claim in CLAIMS if claim.kind == "monte carlo"))
    spent = sum(
        verdict.level
        for report in reports
        for verdict in [report.verdict, *report.twins.values()]
    )
    assert 0 < spent <= FALSE_ALARM


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(tmp_path, monkeypatch):
    args = ["--claims", "Prop 3.1", "Lem H.1", "--out"]
    assert main([*args, str(tmp_path / "whole")]) == 0
    judged, examine = [], verify.examine_in_float64

    def counted(*seed_and_claim, effort):
        if len(judged) == deadline:
            raise KeyboardInterrupt
        judged.append(seed_and_claim[1].id)
        return examine(*seed_and_claim, effort=effort)

    monkeypatch.setattr(verify, "examine_in_float64", counted)
    deadline = 2
    with pytest.raises(KeyboardInterrupt):
        main([*args, str(tmp_path / "cut")])
    deadline = None
    assert main([*args, str(tmp_path / "cut")]) == 0
    assert len(judged) == len(set(judged)) == 4, "each claim is judged once"
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert "verify.json" in names and "lem_h_1.npz" in names
    for name in names:
        whole, cut = (tmp_path / run / name for run in ("whole", "cut"))
        assert whole.read_bytes() == cut.read_bytes(), name


def test_a_folder_of_another_seed_or_program_is_refused(tmp_path, monkeypatch, capsys):
    args = ["--claims", "Lem H.1", "--out", str(tmp_path)]
    assert main(args) == 0
    assert main([*args, "--seed", "1"]) == 2
    assert "seed:" in capsys.readouterr().err
    monkeypatch.setattr(verify, "source", lambda: "another")
    assert main(args) == 2
    assert "source:" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["expected", "twin"])
def test_a_surprise_is_an_exit_status(monkeypatch, capsys, change):
    (claim,) = select(["Prop 3.1 (tight)"])
    if change == "expected":
        doctored = dataclasses.replace(claim, expected="fails")
    else:
        passing = claim.twins[0]._replace(sides=claim.sides)
        doctored = dataclasses.replace(claim, twins=(passing,))
    monkeypatch.setattr(verify, "CLAIMS", (doctored,))
    assert main([]) == 1
    assert "NOT as expected: Prop 3.1 (tight)" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--claims", "Lem 9.9"], "found 'Lem 9.9'"),
        (["--replay", "nowhere.npz"], "nowhere.npz: expected a witness"),
    ],
)
def test_bad_input_is_refused_before_any_work(capsys, args, message):
    assert main(args) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == ""


def test_results_that_could_not_be_written_are_refused_before_the_work(
    tmp_path, capsys, monkeypatch
):
    ran = lambda *args, **kwargs: pytest.fail("it ran")
    monkeypatch.setattr(verify, "examine_in_float64", ran)
    (tmp_path / "file").write_text("")
    assert main(["--out", str(tmp_path / "file")]) == 2
    assert "jsharp verify:" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "99999999999999999999"])
def test_a_seed_out_of_range_is_refused(seed, capsys):
    assert main(["--seed", seed]) == 2
    assert "--seed must be 0 to 2^31 - 1" in capsys.readouterr().err


def test_a_misspelt_claim_gets_a_hint(capsys):
    assert main(["--claims", "lem 4.1'"]) == 2
    assert """perhaps "Lem 4.1'\"""" in capsys.readouterr().err
