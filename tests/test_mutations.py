"""The list of planted bugs keeps up with the code; `mutations.py` itself runs them."""

import ast

import pytest
from mutants import MUTANTS
from mutations import ROOT, Result, mutated, page


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_bug_can_be_planted(mutant):
    """Its text occurs once, what replaces it is Python, its tests exist."""
    ast.parse(mutated(mutant))
    assert mutant.tests and all((ROOT / test).is_file() for test in mutant.tests)


def test_names_differ_and_there_are_enough():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 20


def test_a_text_that_is_gone_is_an_error():
    with pytest.raises(ValueError, match="expected the text once .* found it 0 times"):
        mutated(MUTANTS[0]._replace(old="no such text"))


def test_the_page_shows_survivors():
    mutant = MUTANTS[0]
    results = [Result(mutant, "tests/test_x.py::test_y", 1.0), Result(mutant, "", 1.0)]
    text = page(results)
    assert "1 of 2 caught" in text and "**survives**: ?" in text
