r"""Answers read from the text of a response, and compared with what is right.

    exact        the whole text, stripped
    last_number  its last number         "That makes $1,250.50." -> 2501/2
    choice       a letter from A to J    "So the answer is (B)." -> B
    math         its last \boxed{}       "Hence \boxed{\frac{1}{2}}" -> 1/2

Nothing of a text is evaluated, and the work is bounded by a small multiple of its
length; `math` asks math-verify about what is no number, under limits of its own
(`jsharp.tasks.equality`).
"""

import importlib.util
import re
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from jsharp.tasks import equality, latex

CHOICES = "ABCDEFGHIJ"
LONGEST_NUMBER = 100  # characters; a longer one is no answer


class Grader(NamedTuple):
    """A way to read answers and to mark them.

    answer(text) -> the answer in one spelling, so that equal texts are equal answers;
    None where there is none. correct(reference, text) -> whether the text's answer is
    the reference. check(reference) raises ValueError where it is no reference.
    """

    answer: Callable[[str], str | None]
    correct: Callable[[str, str], bool]
    check: Callable[[str], None]


# A number: not inside a word (H2O) nor an exponent; a sign only where it cannot be a
# subtraction; thousands in groups of three; a fraction only with a whole denominator,
# and no date (10/12/2024).
_WHOLE = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_NUMBER = re.compile(
    r"(?:(?<![0-9A-Za-z)\]}])(?P<minus>[-\u2212]))?(?:\\?\$(?P<inner>[-\u2212])?)?"
    rf"(?<![0-9A-Za-z_^])(?P<date>(?<=[0-9]/))?(?P<value>{_WHOLE}(?:\.[0-9]+)?|\.[0-9]+)"
    r"(?(date)|(?:/(?P<below>0*[1-9][0-9]*)(?![0-9]|[.,/][0-9]))?)"
)


def last_number(text: str) -> str | None:
    """The last number of the text, exactly, as a fraction in lowest terms.

    "1,234.50", "-$3", "3/4" and ".5" are numbers; so is each end of "5-7". None where
    there is none, or where it has more than 100 characters.
    """
    found = None
    for each in _NUMBER.finditer(text.replace("{,}", ",").replace(r"\!", "")):
        found = each
    if found is None or found.end() - found.start() > LONGEST_NUMBER:
        return None
    value = Fraction(found["value"].replace(",", "")) / int(found["below"] or 1)
    return str(-value if found["minus"] or found["inner"] else value)


# "A" and "I" before a small letter, and "I'm", are words.
_LETTER = r"(?P<letter>[B-HJ]|[AI](?!['\u2019][a-z]| (?!is\b)[a-z]))(?![A-Za-z0-9_])"
_SAID = re.compile(
    r"(?i:\b(?:answer|choice|option)\s{0,3}(?:is|:|=))[\s:*$\"'`]{0,8}"
    rf"(?:\\[a-z]{{1,8}}\{{){{0,2}}(?:\\?[(\[])?{_LETTER}"
)
_ALONE = re.compile(rf"(?<![A-Za-z0-9_'\u2019]){_LETTER}")


def choice(text: str) -> str | None:
    """The letter of the last "answer is (B)", else the last capital A to J by itself.

    Read alike: "Answer: B", "option is **B**", "answer is $\\boxed{\\text{B}}$".
    """
    found = _SAID.findall(text) or _ALONE.findall(text)
    return found[-1] if found else None


def _agrees(answer: Callable[[str], str | None]) -> Callable[[str, str], bool]:
    """Whether a text's answer is that of the reference, read in the same way."""

    def correct(reference: str, text: str) -> bool:
        found = answer(text)
        return found is not None and found == answer(reference)

    return correct


def _check_number(reference: str) -> None:
    found = _NUMBER.fullmatch(reference.strip())
    if found is None or last_number(reference) is None:
        raise ValueError(f"expected a number, found {reference!r:.80}")


def _check_choice(reference: str) -> None:
    if reference.strip() not in tuple(CHOICES):
        raise ValueError(f"expected a letter from A to J, found {reference!r:.80}")


def _check_math(reference: str) -> None:
    if len(reference) > latex.LONGEST or not latex.canonical(reference):
        raise ValueError(
            f"expected an answer of 1 to {latex.LONGEST} characters, "
            f"found {reference!r:.80}"
        )
    if not latex.is_integer(reference) and not importlib.util.find_spec("math_verify"):
        raise ValueError(
            "expected an integer, as math-verify is not installed "
            f"(pip install 'jsharp[math]'), found {reference!r:.80}"
        )


def same_math(reference: str, text: str) -> bool:
    """Whether the text's last answer has the value of the reference.

    Numbers are compared exactly, and with an integer nothing else agrees: to 32, "2^5"
    is wrong. All else is for math-verify to say; ValueError where it is needed for this
    reference and not installed, whatever the text.
    """
    _check_math(reference)
    found, wanted = latex.answer(text), latex.canonical(reference)
    if found is None or found == wanted:
        return found == wanted
    if latex.is_words(reference):  # to math-verify, products of their letters
        return found.strip("()").casefold() == wanted.strip("()").casefold()
    alike = (latex.is_number, latex.has_base)  # it reads 1101_2 without its base
    if latex.is_integer(wanted) or any(f(wanted) and f(found) for f in alike):
        return False
    return equality.equal(wanted, found)


GRADERS = {
    "exact": Grader(
        answer=str.strip,
        correct=_agrees(str.strip),
        check=lambda reference: None,
    ),
    "last_number": Grader(last_number, _agrees(last_number), _check_number),
    "choice": Grader(
        answer=choice,
        correct=lambda reference, text: choice(text) == reference.strip(),
        check=_check_choice,
    ),
    "math": Grader(latex.answer, same_math, _check_math),
}
