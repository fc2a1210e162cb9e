"""ProntoQA: is a statement true, by a chain of rules on made-up classes?

    prompt      A zump is not shy. A wump is a romp. A romp is a zump. [...]
                Rex is a wump. True or false: Rex is shy.
    completion  Rex is a romp. Rex is a zump. Rex is not shy. False

After Saparov and He 2022, "Language models are greedy reasoners" (arXiv 2210.01240),
cut down to prompts of at most 190 characters, for decoders that read characters:

* Classes have four letters (wump for wumpus) and properties at most four; a rule always
  reads "A wump is a romp.", not one of several wordings; rules come in random order.
* The chain has 1 to 3 subclass rules (the original: 1, 3 or 5 hops in all) and only its
  last class has a property; the original gives every class of the chain one.
* One class of the chain has a second superclass. It leads nowhere, or back to the chain
  higher up: then the answer has two proofs, where the original always has one.
* The distractor gives the negated property to a class out of reach, with a subclass of
  its own; so "A .. is shy" and "A .. is not shy" are always both there.
* A demonstration states the facts that follow, not the fact and rules they follow from.
* The prompt is the question alone, with no worked example before it.

The checker reads the final word only, as the original's label accuracy does; the steps
may be false. True and False are right equally often, whatever the statement's "not".
"""

import functools
import hashlib
import re
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from jsharp.tasks.task import Task, split, uniform

ONTOLOGIES = 6000  # a multiple of the 12 kinds below: each occurs equally often
HELD_OUT = 256
NAMES = ("Fae", "Max", "Rex", "Sam")
CLASSES = tuple("brim gorp grim jomp lemp lorp romp tump vump wump yump zump".split())
PROPERTIES = tuple("blue cold dull fast hot kind loud mean red shy slow sour".split())

_LABEL = re.compile(r"\b(True|False)\b")
Item = TypeVar("Item")


class Question(NamedTuple):
    """An ontology, whose rules read "A {class} is {predicate}.", and its question.

    A predicate is "a romp", "shy" or "not shy". Each ontology has one question.
    """

    rules: tuple[tuple[str, str], ...]  # (class, predicate), as the prompt orders them
    name: str
    given: str  # the predicate that `name` is known to have
    claim: str  # the predicate to be decided


@functools.cache
def prontoqa() -> Task:
    """The task over 6000 ontologies, each with the one question asked of it."""
    questions = map(question, range(ONTOLOGIES))
    train, held_out = split(questions, name="prontoqa", held_out=HELD_OUT)
    words = (*NAMES, *CLASSES, *PROPERTIES, "A is a not True or false False .:")
    return Task(
        name="prontoqa",
        train=train,
        held_out=held_out,
        alphabet="".join(sorted(set("".join(words)))),
        prompt=prompt,
        demonstration=lambda rng, asked: uniform(rng, solutions(asked)),
        solutions=solutions,
        answer=answer,
        correct=lambda asked, text: answer(text) == solutions(asked)[0].split()[-1],
    )


def question(index: int) -> Question:
    """The ontology of that number, by a hash of it, and its question.

    The number decides the label, the sign of the property and the length of the chain;
    the hash decides all else.
    """
    draws = _Draws(f"prontoqa:{index}")
    holds, negated, hops = index % 2 == 0, index // 2 % 2 == 0, 1 + index // 4 % 3
    pool = draws.shuffled(CLASSES)
    chain, (other, stray, below) = pool[: hops + 1], pool[hops + 1 : hops + 4]
    trait = PROPERTIES[draws.below(len(PROPERTIES))]
    said, opposite = (f"not {trait}", trait) if negated else (trait, f"not {trait}")

    fork = draws.below(hops)
    edges = [*zip(chain, chain[1:], strict=False), (chain[fork], other), (below, stray)]
    if draws.below(2):
        edges.append((other, chain[fork + 1 + draws.below(hops - fork)]))
    rules = [(low, f"a {high}") for low, high in edges]
    rules += [(chain[-1], said), (stray, opposite)]
    return Question(
        rules=draws.shuffled(tuple(rules)),
        name=NAMES[draws.below(len(NAMES))],
        given=f"a {chain[0]}",
        claim=said if holds else opposite,
    )


class _Draws:
    """Draws from a SHA-256 digest, read in a mixed radix: the same for ever."""

    def __init__(self, seed: str):
        self.left = int.from_bytes(hashlib.sha256(seed.encode()).digest(), "big")

    def below(self, count: int) -> int:
        """Uniform on 0..count-1, up to 2^-150: a question spends under 2^80."""
        self.left, drawn = divmod(self.left, count)
        return drawn

    def shuffled(self, items: tuple[Item, ...]) -> tuple[Item, ...]:
        left = list(items)
        return tuple(left.pop(self.below(len(left))) for _ in items)


def prompt(asked: Question) -> str:
    rules = [f"A {subject} is {predicate}." for subject, predicate in asked.rules]
    known = f"{asked.name} is {asked.given}."
    return " ".join([*rules, known, f"True or false: {asked.name} is {asked.claim}."])


def solutions(asked: Question) -> tuple[str, ...]:
    """Every proof, one fact a step, sorted; all of them end in the same label."""
    texts = []
    for proof in _proofs(asked.rules, asked.given):
        facts = " ".join(f"{asked.name} is {predicate}." for predicate in proof)
        texts.append(f"{facts} {proof[-1] == asked.claim}")
    return tuple(sorted(texts))


def _proofs(
    rules: tuple[tuple[str, str], ...], known: str
) -> Iterator[tuple[str, ...]]:
    """The ways from a class to a property, up the rules."""
    for subject, predicate in rules:
        if f"a {subject}" != known:
            continue
        if not predicate.startswith("a "):
            yield (predicate,)
        for rest in _proofs(rules, predicate):
            yield (predicate, *rest)


def answer(text: str) -> str | None:
    """The last word "True" or "False" of the text; None where there is neither."""
    found = _LABEL.findall(text)
    return found[-1] if found else None
