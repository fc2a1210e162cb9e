"""`jsharp verify`: every claim as known, every twin caught, witnesses that replay."""

import dataclasses
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import theory
from theory import verify
from theory.claim import FALSE_ALARM
from theory.verdicts import exponents, markdown, record, table
from theory.verify import CLAIMS, main, record_name, run, select
from theory.witness import load, replay, save

FALSE_AS_PRINTED = {
    "Lem 4.1'",
    "Thm D.1 (queries)",
    "Thm D.1 (total)",
    "Prop E.2 (text)",
    "Lem H.1",
}


@pytest.fixture(scope="module")
def reports():
    with jax.numpy_dtype_promotion("strict"):
        return {report.claim.id: report for report in run(0)}


IDS = [claim.id for claim in CLAIMS]


@pytest.mark.parametrize("id", IDS)
def test_every_claim_comes_out_as_known_and_its_twins_too(reports, id):
    report = reports[id]
    assert report.verdict.outcome == ("fails" if id in FALSE_AS_PRINTED else "holds")
    assert report.claim.twins, "a claim without a twin shows no power"
    for twin in report.claim.twins:
        assert report.twins[twin.name].outcome == twin.expected, twin.name
    assert report.as_expected


@pytest.mark.parametrize("id", IDS)
def test_every_witness_replays_from_its_file_with_equal_sides(reports, id, tmp_path):
    verdict = reports[id].verdict
    path = tmp_path / "witness.npz"
    save(path, id, verdict)
    saved = load(path)
    assert saved.claim_id == id
    assert replay(reports[id].claim, saved.witness) == (verdict.left, verdict.right)
    assert (saved.left, saved.right) == (verdict.left, verdict.right)


def test_a_violated_claim_is_violated_at_its_witness_in_exact_numbers(reports):
    for id in FALSE_AS_PRINTED:
        claim, witness = reports[id].claim, reports[id].verdict.witness
        assert claim.exact is not None
        left, right = claim.exact(witness)
        assert left > right


@pytest.mark.parametrize("id", [c.id for c in CLAIMS if c.exact is not None])
def test_the_exact_road_and_float64_agree_at_the_witness(reports, id):
    claim, verdict = reports[id].claim, reports[id].verdict
    left, right = claim.exact(verdict.witness)
    assert verdict.left == pytest.approx(float(left), rel=1e-9)
    assert verdict.right == pytest.approx(float(right), rel=1e-9)


def test_each_statement_that_is_false_has_its_repair_and_its_erratum():
    assert {c.id for c in CLAIMS if c.expected == "fails"} == FALSE_AS_PRINTED
    repaired = {claim.repairs for claim in CLAIMS if claim.repairs}
    assert repaired == FALSE_AS_PRINTED
    text = Path(theory.__file__).with_name("errata.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*),", text, flags=re.MULTILINE)
    assert headings[0] == "Alg 1"
    papers = {claim.paper_id for claim in CLAIMS if claim.expected == "fails"}
    assert set(headings[1:]) == papers


def test_the_first_ten_claims_are_there():
    ten = "Prop 3.1|Prop C.1|Lem I.1|Lem 4.1|Lem 4.1'|Lem F.1|Thm 4.1'|Thm D.1|Lem H.1"
    assert {claim.paper_id for claim in CLAIMS} == {*ten.split("|"), "Prop E.2"}
    assert len(set(IDS)) == len(IDS)
    assert len({record_name(claim) for claim in CLAIMS}) == len(IDS)


def test_a_number_of_the_paper_selects_its_parts_and_no_other():
    assert [c.id for c in select(["Lem 4.1"])] == ["Lem 4.1", "Lem 4.1 (loss)"]
    assert [c.id for c in select(["Lem 4.1' (repaired)"])] == ["Lem 4.1' (repaired)"]
    assert select([]) == CLAIMS
    with pytest.raises(ValueError, match="found 'Lem 9.9'"):
        select(["Prop 3.1", "Lem 9.9"])


def test_a_claim_alone_finds_what_it_finds_among_all(reports):
    (alone,) = run(0, select(["Lem F.1 (32 members)"]))
    together = reports[alone.claim.id].verdict
    np.testing.assert_array_equal(
        alone.verdict.witness["members"], together.witness["members"]
    )


def test_records_are_json_and_the_table_fits_a_terminal(reports):
    records = [record(report) for report in reports.values()]
    text = json.dumps(records, allow_nan=False)
    assert [row["claim"] for row in json.loads(text)] == IDS
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as shown:
        console.print(table(records))
        console.print(exponents(records))
    assert all(id in shown.get() for id in IDS) and "…" not in shown.get()


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


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_the_readme_table_is_the_output_of_verify(reports):
    """Words, verdicts and counts are equal; tightness may differ in its last digit."""
    readme = (Path(theory.__file__).parents[1] / "README.md").read_text("utf-8")
    block = readme.split("<!-- claims -->\n")[1].split("<!-- end of claims -->")[0]
    wanted = markdown([record(report) for report in reports.values()])
    for found, want in zip(block.splitlines(), wanted.splitlines(), strict=True):
        found, want = cells(found), cells(want)
        tightness = found.pop(3), want.pop(3)
        assert found == want
        if tightness[0] != tightness[1]:
            assert float(tightness[0]) == pytest.approx(float(tightness[1]), rel=0.02)


def test_all_intervals_together_keep_the_false_alarm_budget(reports):
    spent = sum(
        verdict.level
        for report in reports.values()
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
    monkeypatch.setattr(verify, "run", lambda *args, **kwargs: pytest.fail("it ran"))
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
