"""Answers read from texts: every spelling by hand, and what must not slip through."""

import time
from fractions import Fraction

import pytest

from jsharp.tasks import grading, latex
from jsharp.tasks.grading import GRADERS

NUMBERS = [
    ("42", "42"),
    ("The answer is 42.", "42"),
    ("48/2 = 24 clips.\n#### 72", "72"),
    (r"so $x=\boxed{-17}$.", "-17"),
    ("It costs $1,234.50 in all", "2469/2"),
    ("$1,234,567", "1234567"),
    ("1{,}250 rolls", "1250"),
    (r"1,\!250 rolls", "1250"),
    ("12,3456", "3456"),  # no groups of three: two numbers
    ("1234,567", "567"),
    ("1, 2, 3", "3"),
    ("a loss of -$3", "-3"),
    ("a loss of $-3", "-3"),
    (r"a loss of \$-3", "-3"),
    ("a loss of \N{MINUS SIGN}3.50", "-7/2"),
    ("10-3", "3"),
    ("x-3", "3"),
    ("f(2)-3", "3"),
    ("10 - 3 = 7", "7"),
    ("10 -3", "-3"),
    ("5-7", "7"),
    ("5\N{EN DASH}7", "7"),
    ("-0", "0"),
    ("-0.00", "0"),
    ("007", "7"),
    (".5", "1/2"),
    ("0.50", "1/2"),
    ("1/2", "1/2"),
    ("-6/4", "-3/2"),
    ("50%", "50"),
    ("3/0", "0"),  # no fraction: two numbers
    ("10/12/2024", "2024"),
    ("1/2.5", "5/2"),
    ("1.2.3", "3"),
    ("3 km", "3"),
    ("3km", "3"),
    ("100 m^2", "100"),
    ("100 m2", "100"),
    ("H2O", None),
    ("x_3", None),
    ("no number", None),
    ("", None),
    ("\N{ARABIC-INDIC DIGIT FIVE}", None),
    ("\N{SUPERSCRIPT TWO}", None),
    ("1" * 100, "1" * 100),
    ("1" * 101, None),
    ("5 then " + "9" * 10**5, None),
    ("1e5", "1"),
]


@pytest.mark.parametrize(("text", "number"), NUMBERS)
def test_the_last_number_of_a_text(text, number):
    assert grading.last_number(text) == number
    if number is not None:
        assert str(Fraction(number)) == number


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (B).", "B"),
        ("The answer is B", "B"),
        ("the Answer is: C, since A is too small and D too large.", "C"),
        ("Answer: **D**", "D"),
        ("Answer:\nD", "D"),
        (r"The answer is $\boxed{\text{C}}$.", "C"),
        (r"the answer is \(B\)", "B"),
        ("The correct option is [E].", "E"),
        ("The answer is A. No: the answer is B.", "B"),
        ("(A) is wrong, so (C)", "C"),
        ("C", "C"),
        ("J", "J"),
        ("I think it must be B because I checked.", "B"),
        ("I'm sure of D. I\N{RIGHT SINGLE QUOTATION MARK}m", "D"),
        ("The answer is A dog, I mean B", "B"),
        ("A is right", "A"),
        ("The answer is (b)", None),
        ("ABCD", None),
        ("K", None),
        ("Don't know", None),
        ("vitamin B12", None),
        ("DNA", None),
        ("", None),
    ],
)
def test_the_choice_of_a_text(text, letter):
    assert grading.choice(text) == letter


FINAL = [
    (r"so $x = \boxed{42}$.", "42"),
    (r"\boxed{1} or rather \boxed{2}", "2"),
    (r"\boxed{\boxed{5}}", "5"),
    (r"\fbox{5}", "5"),
    (r"$\boxed 7$ apples", "7"),
    (r"\boxed  {7}", "7"),
    (r"\boxed{\frac{1}{2}}", "1/2"),
    (r"\boxed{\dfrac{-2}{4}}", "-1/2"),
    (r"\boxed{\frac12}", "1/2"),
    (r"\boxed{\frac{1}{0}}", r"\frac{1}{0}"),
    (r"\boxed{0.50}", "1/2"),
    (r"\boxed{1{,}000}", "1000"),
    (r"\boxed{1,\!000}", "1000"),
    (r"\boxed{\$5.00}", "5"),
    (r"\boxed{90^\circ}", "90"),
    (r"\boxed{10\%}", "10"),
    (r"\boxed{5\text{ cm}^2}", "5"),
    (r"\boxed{x = 5}", "5"),
    (r"\boxed{\text{Evelyn}}", "Evelyn"),
    (r"\boxed{\left( 3, \frac{\pi}{2} \right)}", r"(3,\frac{\pi}{2})"),
    (r"\boxed{2 \pi r}", r"2\pi r"),
    (r"\boxed{\{1, 2\}}", r"\{1,2\}"),
    (
        r"\boxed{\begin{pmatrix} 1 \\ 2 \end{pmatrix}}",
        r"\begin{pmatrix}1\\2\end{pmatrix}",
    ),
    (r"\boxed{1101_{2}}", "1101_2"),
    (r"\boxed{}", None),
    (r"\boxed{4", None),
    (r"\boxed{\frac{1}{2}", None),
    (r"\boxed{4\}", None),
    (r"\boxed", None),
    (r"\boxed{" + "x" * 301 + "}", None),
    ("The answer is 42. I hope it is correct.", "42"),
    (r"Final Answer: The final answer is $\frac{3}{6}$. Done", "1/2"),
    ("The answer is: -7\nNext", "-7"),
    ("#### 1,234", "1234"),
    (r"\boxed{5.}", "5"),
    (r"\boxed{(1,2).}", "(1,2)"),
    ("#### " + "x" * 300, "x" * 300),
    ("#### " + "x" * 301, None),
    (r"\boxed " + "x" * 301, None),
    ("42", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "found"), FINAL)
def test_the_final_formula_of_a_text(text, found):
    assert latex.answer(text) == found
    if found is not None:
        assert latex.canonical(found) == found  # one spelling


def test_a_nested_box_ends_where_its_braces_do():
    """Road two: count braces by hand over every cut of a text."""
    inner = r"\sqrt{\frac{a}{b_{1}}}+\{c\}"
    text = rf"so \boxed{{{inner}}} and {{more}}}}"
    assert latex.boxed(text) == inner
    end = text.index(inner) + len(inner)
    for cut in range(text.index("{") + 1, end + 1):
        assert latex.boxed(text[:cut]) is None


MARKS = {
    "exact": [("yes", " yes\n", True), ("yes", "Yes", False), ("", "", True)],
    "last_number": [
        ("72", "so 72.0", True),
        ("1,000", "1000 dollars", True),
        ("-3", "3", False),
        ("0.5", "1/2", True),
        ("72", "", False),
        ("seventy", "eighty", False),
        ("72", "72 or 73", False),
        ("72", "7 2", False),
        ("72", "__import__('os')", False),
        ("72", "9" * 10**6, False),
    ],
    "choice": [("B", "The answer is (B)", True), ("B", "C", False), ("B", "", False)],
    "math": [
        ("42", r"\boxed{42}", True),
        ("42", r"\boxed{42.0}", True),
        ("42", r"\boxed{\frac{84}{2}}", True),
        ("42", r"\boxed{x=42\text{ cm}}", True),
        ("42", r"\boxed{42.0000001}", False),
        ("42", r"\boxed{-42}", False),
        ("42", r"\boxed{42x}", False),
        ("42", r"\boxed{40+2}", False),
        ("42", "42", False),
        ("42", r"\boxed{__import__('os').getpid()}", False),
        ("42", r"\boxed{9^{9^{9^{9}}}}", False),
        ("1,000", r"\boxed{1000}", True),
        ("1", r"\boxed{" + "9" * 200 + "}", False),
    ],
}


@pytest.mark.parametrize(
    ("name", "reference", "text", "right"),
    [(name, *case) for name, cases in MARKS.items() for case in cases],
)
def test_marks(name, reference, text, right):
    assert GRADERS[name].correct(reference, text) is right


@pytest.mark.parametrize(
    ("name", "reference", "expected"),
    [
        ("last_number", "seventy", "expected a number, found 'seventy'"),
        ("last_number", "7 or 8", "expected a number"),
        ("last_number", "1" * 101, "expected a number"),
        ("choice", "K", "expected a letter from A to J, found 'K'"),
        ("choice", "AB", "expected a letter"),
        ("choice", "", "expected a letter"),
        ("math", "", "expected an answer of 1 to 300 characters, found ''"),
        ("math", "x" * 301, "expected an answer of 1 to 300 characters"),
    ],
)
def test_what_is_no_reference_is_refused(name, reference, expected):
    with pytest.raises(ValueError, match=expected):
        GRADERS[name].check(reference)


def test_good_references_pass():
    for name, reference in [
        ("exact", ""),
        ("last_number", " 1,234.5 "),
        ("choice", "J"),
        ("math", r"\$1{,}000"),
    ]:
        GRADERS[name].check(reference)


def test_without_math_verify_a_formula_is_refused_whatever_the_answer(monkeypatch):
    monkeypatch.setattr(grading.importlib.util, "find_spec", lambda name: None)
    for text in (r"\boxed{\sqrt{2}}", r"\boxed{3}", "nothing"):
        with pytest.raises(ValueError, match=r"pip install 'jsharp\[math\]'"):
            GRADERS["math"].correct(r"\sqrt{2}", text)
    assert GRADERS["math"].correct("7", r"\boxed{7}")


SIZE = 2 * 10**5
HOSTILE = [
    "1," * SIZE,
    "1,111" * SIZE,
    "1" * (SIZE // 2) + "." + "1" * (SIZE // 2),
    "1/" * SIZE,
    "1/" + "0" * SIZE,
    "-$" * SIZE,
    r"\boxed{" * SIZE,
    r"\boxed{" + "{" * SIZE,
    r"\boxed{" + "\\" * (SIZE - 9) + "}",
    r"\boxed{" + r"\text{" * 40 + "}" * 41,
    r"\boxed{" + " \\ " * 90 + "}",
    "answer is " * SIZE,
    "answer is $" + "(" * SIZE,
    "answer" + " " * (SIZE - 8) + "is",
    "####" * SIZE,
    "A" * SIZE,
    "A " * SIZE,
    "answer: \\a{\\a{" * SIZE,
    "\x00" * SIZE,
    "\ud800" * SIZE,
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("text", HOSTILE, ids=[text[:20] for text in HOSTILE])
def test_hostile_texts_take_time_in_proportion_to_their_length(text):
    """Processor seconds: a quadratic step over 10^6 characters would take hours."""
    text = text[:SIZE]
    before = time.process_time()
    for name, reference in [("last_number", "7"), ("choice", "B"), ("math", "7")]:
        GRADERS[name].answer(text)
        GRADERS[name].correct(reference, text)
    assert time.process_time() - before < 20
