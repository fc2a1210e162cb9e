"""ProntoQA: what follows from a prompt's own words, found without the generator."""

import collections
import functools
import hashlib
import itertools
import re

import pytest

import jsharp.tasks
from jsharp.tasks import prontoqa as module

TASK = jsharp.tasks.load("prontoqa")
ALL = TASK.train + TASK.held_out
RULE = re.compile(r"A (\w+) is (a \w+|not \w+|\w+)\.")


def parsed(prompt):
    """(rules, name, what is known, what is asked) from the text alone."""
    text, asked = prompt.split(" True or false: ")
    *rules, known = text.removesuffix(".").split(". ")
    name, given = known.split(" is ", 1)
    assert asked.startswith(f"{name} is ") and asked.endswith(".")
    rules = [RULE.fullmatch(f"{rule}.").groups() for rule in rules]
    return rules, name, given, asked.removeprefix(f"{name} is ").removesuffix(".")


def closure(rules, given):
    """Forward chaining to a fixed point: every predicate that follows."""
    known, before = {given}, set()
    while known != before:
        before = set(known)
        known |= {high for low, high in rules if f"a {low}" in known}
    return known


def negated(predicate):
    return predicate[4:] if predicate.startswith("not ") else f"not {predicate}"


@functools.cache
def verdict(prompt):
    rules, _, given, claim = parsed(prompt)
    known = closure(rules, given)
    true, false = claim in known, negated(claim) in known
    assert true != false, prompt
    return "True" if true else "False"


def test_a_prover_that_reads_the_prompt_agrees_on_every_problem():
    for problem in ALL:
        label = verdict(TASK.prompt(problem))
        other = {"True": "False", "False": "True"}[label]
        assert TASK.correct(problem, label) and not TASK.correct(problem, other)
        assert {text.split()[-1] for text in TASK.solutions(problem)} == {label}


def test_the_prover_knows_an_inconsistent_prompt():
    with pytest.raises(AssertionError):
        verdict(
            "A wump is shy. A wump is not shy. Rex is a wump. "
            "True or false: Rex is shy."
        )


def test_solutions_are_all_that_a_blind_search_finds():
    """Every ordered choice of facts, kept where each follows from the one before."""
    for problem in ALL[::30]:
        rules, name, given, claim = parsed(TASK.prompt(problem))
        facts = closure(rules, given) - {given}
        licensed = {(f"a {low}", high) for low, high in rules}
        found = set()
        for size in range(1, len(facts) + 1):
            for steps in itertools.permutations(facts, size):
                pairs = itertools.pairwise((given, *steps))
                if not steps[-1].startswith("a ") and licensed.issuperset(pairs):
                    text = " ".join(f"{name} is {step}." for step in steps)
                    found.add(f"{text} {steps[-1] == claim}")
        assert TASK.solutions(problem) == tuple(sorted(found))


def test_no_ontology_is_in_both_parts_nor_comes_twice():
    train, held_out = ({frozenset(p.rules) for p in part} for part in TASK[1:3])
    assert not train & held_out
    assert (len(train), len(held_out)) == (5744, 256)


def test_prompts_are_short_and_name_each_class_by_one_word():
    assert max(map(len, map(TASK.prompt, ALL))) <= 190
    assert len(set(module.CLASSES)) == len(set(module.PROPERTIES)) == 12
    for problem in ALL[:300]:
        rules, name, given, claim = parsed(TASK.prompt(problem))
        assert name in module.NAMES and given[2:] in module.CLASSES
        assert claim.removeprefix("not ") in module.PROPERTIES
        assert {low for low, _ in rules} <= set(module.CLASSES)


def test_every_kind_of_problem_is_equally_frequent():
    """Label, sign of the statement: each pair a quarter; proofs: one or two."""
    kinds = collections.Counter(
        (verdict(TASK.prompt(problem)), problem.claim.startswith("not "))
        for problem in ALL
    )
    assert set(kinds.values()) == {1500}
    proofs = [TASK.solutions(problem) for problem in ALL[::3]]
    assert {len(texts) for texts in proofs} == {1, 2}
    steps = {min(text.count(".") for text in texts) for texts in proofs}
    assert steps == {2, 3, 4}  # up the chain, and its last class's property


def _first_mentioned(rules, trait):
    return next(high for _, high in rules if high.removeprefix("not ") == trait)


SHORTCUTS = {
    "the rule that comes first": _first_mentioned,
    "the rule that comes last": lambda rules, trait: _first_mentioned(
        rules[::-1], trait
    ),
    "the positive rule": lambda rules, trait: trait,
}


@pytest.mark.parametrize("guess", SHORTCUTS.values(), ids=SHORTCUTS.keys())
def test_no_shallow_rule_tells_the_label(guess):
    right = 0
    for problem in ALL:
        rules, _, _, claim = parsed(TASK.prompt(problem))
        said = guess(rules, claim.removeprefix("not "))
        right += (said == claim) == (verdict(TASK.prompt(problem)) == "True")
    assert 0.47 < right / len(ALL) < 0.53


def test_draws_are_the_digits_of_a_hash_and_shuffles_reach_every_order():
    draws = module._Draws("seed")
    digits = [(draws.below(count), count) for count in (7, 2, 12, 5)]
    number, place = draws.left, 1
    for digit, count in reversed(digits):
        assert 0 <= digit < count
        number = number * count + digit
        place *= count
    assert number == int(hashlib.sha256(b"seed").hexdigest(), 16)
    orders = set()
    for number in range(24):
        draws.left = number
        orders.add(draws.shuffled((1, 2, 3, 4)))
    assert orders == set(itertools.permutations((1, 2, 3, 4)))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Rex is a romp. Rex is shy. True", "True"),
        ("So the statement is False.", "False"),
        ("True? No: it is False", "False"),
        ("**True**", "True"),
        ("(False)", "False"),
        ("Tru", None),
        ("Trueish", None),
        ("Untrue", None),
        ("true", None),
        ("True_1", None),
        ("", None),
        ("Rex is a romp.", None),
        ("False " * 10**5 + "True", "True"),
        ("TrueFalse" * 10**5, None),
    ],
)
@pytest.mark.timeout(60)
def test_the_answer_is_the_last_label(text, answer):
    assert TASK.answer(text) == answer
    if answer is None:
        assert not any(TASK.correct(problem, text) for problem in ALL[:20])


def test_only_the_label_is_graded():
    problem = ALL[0]
    right = TASK.solutions(problem)[0].split()[-1]
    assert TASK.correct(problem, f"Rex is a cat. Rex is not Rex. {right}")
