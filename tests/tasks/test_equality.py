"""Answers that math-verify compares, where it is installed; and its helper's limits."""

import importlib.util
import os
import signal
import subprocess
import sys

import pytest

from jsharp.tasks import equality
from jsharp.tasks.grading import GRADERS

needs = pytest.mark.skipif(
    importlib.util.find_spec("math_verify") is None,
    reason="pip install 'jsharp[math]'",
)

CASES = [
    (r"\frac{1}{2}", "0.5", True),
    (r"\frac{1}{3}", "0.333", False),
    (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", True),
    (r"11\sqrt2", r"11\sqrt{2}", True),
    ("x^2+2x+1", "(x+1)^2", True),
    ("x^2+2x+1", "(x+1)^3", False),
    (r"(3,\frac{\pi}{2})", r"\left(3, \pi/2\right)", True),
    ("(1,2)", "(2,1)", False),
    ("[1,2)", "[1,2]", False),
    (r"\{1,2,3\}", r"\{3,2,1\}", True),
    (r"\text{Evelyn}", "Evelyn", True),
    (r"\text{Evelyn}", r"\text{nylevE}", False),
    ("1101_2", "1101_3", False),
    (
        r"\begin{pmatrix}1\\2\end{pmatrix}",
        r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
        True,
    ),
    (r"\sqrt{2}", "9^{9^{9}}", False),
    (r"\sqrt{2}", "__import__('os').getpid()", False),
]


@needs
@pytest.mark.parametrize(("reference", "answer", "same"), CASES)
def test_formulas_are_compared_by_value(reference, answer, same):
    text = rf"So the answer is $\boxed{{{answer}}}$."
    assert GRADERS["math"].correct(reference, text) is same


PRELUDE = """
import json, os, signal, sys
{setup}
sys.stdin.readline()
print("false", flush=True)  # ready
for line in sys.stdin:
    reference, answer = json.loads(line)
    {reply}
"""


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Put another program in the helper's place."""

    def place(reply, setup=""):
        program = tmp_path / "helper.py"
        program.write_text(PRELUDE.format(reply=reply, setup=setup))
        monkeypatch.setattr(equality, "__file__", str(program))

    equality._stop()
    equality.equal.cache_clear()
    yield place
    equality._stop()
    equality.equal.cache_clear()


def test_one_helper_answers_pair_after_pair_and_is_not_asked_twice(helper, tmp_path):
    log = tmp_path / "asked"
    helper(
        f"open({str(log)!r}, 'a').write(line)\n"
        "    print(json.dumps(reference == answer), flush=True)"
    )
    assert equality.equal("a", "a") and not equality.equal("a", "b\n\ud800")
    first = equality._helpers[0].pid
    assert os.getsid(first) == first  # Ctrl-C at the terminal does not reach it
    assert equality.equal("a", "a") and equality.equal("c", "c")
    assert equality._helpers[0].pid == first
    assert len(log.read_text().splitlines()) == 3


def test_a_helper_over_its_limit_has_found_no_equality(helper, tmp_path):
    started = tmp_path / "started"
    helper(
        "if answer == 'slow': os.kill(os.getpid(), signal.SIGXCPU)\n"
        "    print('true', flush=True)",
        setup=f"open({str(started)!r}, 'a').write('x')",
    )
    assert not equality.equal("a", "slow")
    assert started.read_text() == "x"  # not tried again
    assert equality.equal("a", "b")


def test_a_helper_that_something_killed_is_asked_again(helper, tmp_path):
    once = tmp_path / "once"
    helper(
        f"if not os.path.exists({str(once)!r}):\n"
        f"        open({str(once)!r}, 'w').close()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    print('true', flush=True)"
    )
    assert equality.equal("a", "b")


def test_a_helper_that_does_not_start_says_so(helper):
    helper("pass", setup="sys.exit(3)")
    with pytest.raises(RuntimeError, match="does not start.*exit status 3"):
        equality.equal("a", "b")


def test_the_processor_limit_is_the_kernels(tmp_path):
    """The helper's own code, around a math-verify that never returns."""
    package = tmp_path / "math_verify.py"
    package.write_text(
        "LatexExtractionConfig = dict\n"
        "def parse(text, **options):\n"
        "    print('a library that talks')\n"
        "    while 'slow' in text: pass\n"
        "    return text\n"
        "def verify(a, b, **options): return a == b\n"
    )
    program = tmp_path / "short.py"
    with open(equality.__file__) as file:
        program.write_text(file.read().replace("SECONDS = 5", "SECONDS = 0"))
    run = lambda lines: subprocess.run(
        [sys.executable, "-P", str(program)],
        input=lines,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    good = run('[]\n["a", "a"]\n["a", "b"]\n')
    assert good.stdout == "false\ntrue\nfalse\n" and good.returncode == 0
    stuck = run('[]\n["a", "slow"]\n["a", "a"]\n')
    assert stuck.stdout == "false\n" and stuck.returncode == -signal.SIGXCPU
