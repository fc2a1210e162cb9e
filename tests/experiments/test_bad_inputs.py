"""Every malformed input of the report is refused by a message that names it."""

import sys

import pytest

from experiments import bad_files, bad_inputs
from experiments.bad_cases import GROUPS, Case
from experiments.bad_inputs import Outcome


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("bad")
    bad_files.make(directory)
    return directory


@pytest.mark.parametrize("group", GROUPS)
def test_all_are_refused_with_their_reason(directory, group):
    outcomes = [bad_inputs.ask(case, directory) for case in GROUPS[group]]
    assert [(x.case.fault, x.wrong, x.message) for x in outcomes if x.wrong] == []


def test_no_fault_comes_twice():
    cases = [case for some in GROUPS.values() for case in some]
    assert len({case.line for case in cases}) == len(cases) > 100
    assert all(case.says and all(case.says) for case in cases)


def test_what_is_not_refused_as_it_should_be_is_seen(directory, monkeypatch):
    """A command that works, one that raises, one that says too little."""

    def fake():
        words = sys.argv[1:]
        if words[0] == "raises":
            raise KeyError("x")
        if words[0] == "writes":
            (directory / "good.jsonl").write_text("gone")
        return 0 if words[0] == "works" else 2

    monkeypatch.setattr("jsharp.cli.main", fake)
    wrong = lambda line, *says: bad_inputs.ask(Case("", line, says), directory).wrong
    assert wrong("works") == "exit status 0, expected 2"
    assert "KeyError" in wrong("raises")
    assert wrong("says", "--option") == "the message lacks '--option'"
    assert wrong("writes") == "files were written or changed"


def test_the_report_tells_command_and_message():
    case = Case("a fault", "sample {bad}/x.jsonl {to}", ("x",))
    found = {"Group": [Outcome(case, "no x", ""), Outcome(case, "hm", "a traceback")]}
    text = bad_inputs.markdown(found)
    assert "2 malformed inputs, 1 refused as they should be" in text
    assert "    $ jsharp sample ./x.jsonl --output new.jsonl\n    no x\n" in text
    assert "**a fault** (WRONG: a traceback)" in text
