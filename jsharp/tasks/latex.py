r"""Final answers in LaTeX: found in a text, and written in one spelling.

What "so $x = \boxed{\dfrac{1}{2}}$." holds is \dfrac{1}{2}, which is written 1/2.
"""

import re
from fractions import Fraction

LONGEST = 300  # characters of an answer; a longer one is none
LONGEST_NUMBER = 100

_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_SAID = re.compile(r"(?:(?i:\banswer\s{1,3}is)\s{0,3}:?|####)\s{0,9}")
_DOLLARS = re.compile(r"\${1,2}([^$]+)\$")
_SENTENCE = re.compile(r"\n|\.(?=\s|$)")
_DROPPED = re.compile(  # a row break is kept: its backslashes begin nothing else
    r"(?P<kept>\\\\)|\\(?:left|right|displaystyle)(?![A-Za-z])"
    r"|\\[!,;:$%()\[\]]|[$%]|\^(?:\\circ(?![A-Za-z])|\{\\circ\})"
)
_SPACE = re.compile(
    r"(?P<row>\\\\)\s*|(?P<command>\\[A-Za-z]+)?(?:\\ |~|\s)+(?P<letter>[A-Za-z])?"
)
_FRACTION = re.compile(r"\\[dt]frac(?![A-Za-z])")
_WORDS = re.compile(r"\\(?:text|textbf|textrm|mbox|mathrm|mathbf)\{([^{}\\]*)\}")
_UNIT = re.compile(rf"(?<=[^=,]){_WORDS.pattern}(?:\^\{{?[0-9]\}}?)?$")
_INDEX = re.compile(r"_\{([0-9A-Za-z])\}")
_BASED = re.compile(r"[0-9A-Z]+_(?:[0-9]|\{[0-9]+\})")
_NAME = re.compile(r"[A-Za-z]=")
_DECIMAL = re.compile(
    r"([-+\u2212]?)((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)"
    r"(?:/(0*[1-9][0-9]*))?"
)
_QUOTIENT = re.compile(
    r"([-+\u2212]?)\\frac(?:\{([-\u2212]?[0-9]+)\}|([0-9]))(?:\{([0-9]+)\}|([0-9]))"
)


def answer(text: str) -> str | None:
    """The final answer of a text in its one spelling; None where there is none.

    What the last \\boxed{} holds; without one, what follows the last "answer is" or
    "####": the formula between dollars if one comes next, else the rest of the line.
    """
    found = boxed(text) if _box(text) >= 0 else _said(text)
    if found is None or len(found) > LONGEST:
        return None
    return canonical(found) or None


def _box(text: str) -> int:
    return max(text.rfind(r"\boxed"), text.rfind(r"\fbox"))


def boxed(text: str) -> str | None:
    """What the last \\boxed{..} or \\fbox{..} of a text holds, braces nested.

    "\\boxed 7" holds what follows up to a dollar or the end of the line. None where
    there is no box, or none that closes within 300 characters.
    """
    at = _box(text)
    head = _BOX.match(text, at) if at >= 0 else None
    if head is None:
        return None
    rest = text[head.end() : head.end() + LONGEST + 2]
    if not rest.startswith("{"):
        return re.split(r"[$\n]", rest, maxsplit=1)[0].strip()
    depth = 0
    for mark in re.finditer(r"\\.|[{}]", rest, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
        if not depth and mark[0] == "}":
            return rest[1 : mark.start()].strip()
    return None


def _said(text: str) -> str | None:
    found = None
    for each in _SAID.finditer(text):
        found = each
    if found is None:
        return None
    rest = text[found.end() : found.end() + LONGEST + 1]
    formula = _DOLLARS.match(rest)
    return formula[1] if formula else _SENTENCE.split(rest, maxsplit=1)[0]


def canonical(latex: str) -> str:
    """The answer without what does not change it: spaces, sizes of brackets and
    fractions, dollars, percent and degree signs, a unit at its end, a full stop.

    A number, also one that "x=" stands before, becomes a fraction in lowest terms.
    """
    text = _DROPPED.sub(lambda m: m["kept"] or "", latex.replace("{,}", ","))
    text = _FRACTION.sub(r"\\frac", text).strip().rstrip(".").rstrip()
    text = _UNIT.sub("", text)
    text = _INDEX.sub(r"_\1", _SPACE.sub(_joined, text))
    whole = _WORDS.fullmatch(text)
    text = whole[1] if whole else text
    number = _number(_NAME.sub("", text, count=1) if _NAME.match(text) else text)
    return text if number is None else str(number)


def _joined(space: re.Match[str]) -> str:
    r"""Without the space, unless it ends a command: \pi r is not \pir."""
    if space["row"]:
        return space["row"]
    command, letter = space["command"] or "", space["letter"] or ""
    return f"{command} {letter}" if command and letter else command + letter


def is_integer(latex: str) -> bool:
    return re.fullmatch("-?[0-9]+", canonical(latex)) is not None


def is_words(latex: str) -> bool:
    r"""Whether it is one \\text{..}: letters that are no product of variables."""
    return _WORDS.fullmatch(latex.strip(" $")) is not None


def has_base(latex: str) -> bool:
    """Whether it is a number with its base, as 1101_2."""
    return _BASED.fullmatch(canonical(latex)) is not None


def is_number(latex: str) -> bool:
    return re.fullmatch("-?[0-9]+(?:/[0-9]+)?", canonical(latex)) is not None


def _number(text: str) -> Fraction | None:
    if len(text) > LONGEST_NUMBER:
        return None
    if found := _DECIMAL.fullmatch(text):
        sign, above, below = found.groups()
        value = Fraction(above.replace(",", "")) / int(below or 1)
    elif found := _QUOTIENT.fullmatch(text):
        sign, above, digit, below, last = found.groups()
        if not int(below or last):
            return None
        top = (above or digit).replace("\N{MINUS SIGN}", "-")
        value = Fraction(int(top), int(below or last))
    else:
        return None
    return value if sign in ("", "+") else -value
