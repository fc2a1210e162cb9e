"""Tasks from files: the public fields, the prompts, and every way to be refused."""

import gzip
import json
import sys

import numpy as np
import pytest

import jsharp.tasks
from jsharp.tasks import gsm8k, math, mmlu
from jsharp.tasks.grading import GRADERS
from jsharp.tasks.task import prompt_length

ROWS = {
    "gsm8k": [
        {"question": "Two and two?", "answer": "2+2=<<2+2=4>>4\n#### 4"},
        {"question": "A thousand less 2,000?", "answer": "It is\n#### -1,000"},
    ],
    "math": [
        {
            "problem": "Solve $2x=8$.",
            "solution": r"Halve it: $x=\boxed{4}$.",
            "level": "Level 1",
            "type": "Algebra",
        },
        {
            "problem": "Subtract.",
            "solution": r"First $\boxed{3}$, then $\boxed{-1{,}000}$.",
            "level": "Level 2",
            "type": "Prealgebra",
        },
    ],
    "mmlu": [
        {
            "question": "Which is even?",
            "choices": ["1", "3", "4", "5"],
            "answer": 2,
            "subject": "elementary_mathematics",
        },
        {"question": "Which is odd?", "choices": ["2", "7"], "answer": "B"},
    ],
}
REFERENCES = {"gsm8k": ("4", "-1,000"), "math": ("4", "-1{,}000"), "mmlu": ("C", "B")}
RIGHT = {
    "gsm8k": "2+2=4\nThe answer is 4.",
    "math": r"So $x=\boxed{4.0}$.",
    "mmlu": "The answer is (C).",
}
WRONG = {"gsm8k": "#### 5", "math": r"\boxed{5}", "mmlu": "The answer is (B)."}


def write(path, rows):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(
        gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode()
    )
    return path


@pytest.fixture(params=jsharp.tasks.file_names())
def name(request):
    return request.param


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_problems_come_in_the_order_of_the_file(name, suffix, tmp_path):
    path = write(tmp_path / f"test{suffix}", ROWS[name])
    task = jsharp.tasks.load(name, test=path)
    assert task.name == name and task.train == ()
    assert tuple(problem.reference for problem in task.held_out) == REFERENCES[name]
    assert hash(task.held_out[0]) == hash(
        jsharp.tasks.load(name, test=path).held_out[0]
    )
    other = jsharp.tasks.load(name, train=path)
    assert other.held_out == () and other.train == task.held_out
    assert prompt_length(other) == max(len(task.prompt(p)) for p in task.held_out)


def test_the_contract_of_tasks_holds(name, tmp_path):
    task = jsharp.tasks.load(name, test=write(tmp_path / "a.jsonl", ROWS[name]))
    rng = np.random.default_rng(0)
    assert len(set(task.alphabet)) == len(task.alphabet)
    for problem in task.held_out:
        text = task.demonstration(rng, problem)
        assert (text,) == task.solutions(problem)
        assert task.correct(problem, text) and task.answer(text) is not None
        assert set(text) | set(task.prompt(problem)) <= set(task.alphabet)
    first, second = task.held_out
    assert task.correct(first, RIGHT[name]) and not task.correct(second, RIGHT[name])
    assert not task.correct(first, WRONG[name]) and not task.correct(first, "")


def test_a_prompt_is_one_worked_example_and_the_question(name, tmp_path):
    task = jsharp.tasks.load(name, test=write(tmp_path / "a.jsonl", ROWS[name]))
    asked = task.prompt(task.held_out[0])
    example, question = asked.split("\n\nQuestion: ")
    assert example.startswith("Question: ") and example.count("\nAnswer: ") == 1
    assert question.endswith("\nAnswer:") and question.count("Answer:") == 1
    field = "problem" if name == "math" else "question"
    assert question.startswith(ROWS[name][0][field])


@pytest.mark.parametrize("module", [gsm8k, math, mmlu])
def test_the_example_is_right(module):
    """Its solution gives its reference, by the task's own reading."""
    grader = {gsm8k: "last_number", math: "math", mmlu: "choice"}[module]
    example = module.EXAMPLE
    assert GRADERS[grader].correct(example.reference, example.solution)


def test_the_next_question_is_not_part_of_an_answer(name, tmp_path):
    task = jsharp.tasks.load(name, test=write(tmp_path / "a.jsonl", ROWS[name]))
    problem = task.held_out[0]
    onward = "\n\nQuestion: What now?\nAnswer: "
    assert task.correct(problem, RIGHT[name] + onward + WRONG[name])
    assert not task.correct(problem, WRONG[name] + onward + RIGHT[name])
    assert task.answer(RIGHT[name] + onward + WRONG[name]) == task.answer(RIGHT[name])


def test_the_calculators_marks_are_left_out(tmp_path):
    path = write(tmp_path / "a.jsonl", ROWS["gsm8k"])
    task = jsharp.tasks.load("gsm8k", test=path)
    assert task.solutions(task.held_out[0]) == (" 2+2=4\nThe answer is 4.",)


def test_choices_are_lettered(tmp_path):
    path = write(tmp_path / "a.jsonl", ROWS["mmlu"])
    task = jsharp.tasks.load("mmlu", test=path)
    assert "Which is even?\n(A) 1\n(B) 3\n(C) 4\n(D) 5\nAnswer:" in task.prompt(
        task.held_out[0]
    )


def test_a_training_problem_that_is_also_tested_is_left_out(name, tmp_path):
    both = write(tmp_path / "train.jsonl", ROWS[name])
    test = write(tmp_path / "test.jsonl", ROWS[name][1:])
    task = jsharp.tasks.load(name, train=both, test=test)
    assert len(task.train) == len(task.held_out) == 1
    assert not set(map(task.prompt, task.train)) & set(map(task.prompt, task.held_out))
    with pytest.raises(ValueError, match="every problem is also in the test file"):
        jsharp.tasks.load(name, train=test, test=both)


def test_math_asks_only_what_has_an_integer_answer(tmp_path):
    half = {"problem": "Halve 1.", "solution": r"$\boxed{\frac{1}{2}}$"}
    path = write(tmp_path / "a.jsonl", [half, *ROWS["math"]])
    assert len(jsharp.tasks.load("math", test=path).held_out) == 2
    alone = write(tmp_path / "b.jsonl", [half])
    with pytest.raises(ValueError, match="one problem with an integer as its answer"):
        jsharp.tasks.load("math", test=alone)


def test_math_with_every_answer_needs_math_verify(tmp_path, monkeypatch):
    root = {"problem": "Root of 2?", "solution": r"$\boxed{\sqrt{2}}$"}
    path = write(tmp_path / "a.jsonl", [*ROWS["math"], root])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"line 3: solution: .*jsharp\[math\]"):
        math.math(train=None, test=path, integer_only=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    task = math.math(train=None, test=path, integer_only=False)
    assert len(task.held_out) == 3


LINES = {
    "no question": ("gsm8k", {"answer": "#### 4"}, "question: .*found no such field"),
    "an empty question": ("gsm8k", {"question": " ", "answer": "#### 4"}, "question"),
    "a number as question": ("gsm8k", {"question": 4, "answer": "#### 4"}, "found 4"),
    "no mark": ("gsm8k", {"question": "?", "answer": "4"}, "answer: .*#### and a num"),
    "no number": (
        "gsm8k",
        {"question": "?", "answer": "#### four"},
        "answer: expected",
    ),
    "no answer": ("gsm8k", {"question": "?"}, "answer: .*found no such field"),
    "no box": ("math", {"problem": "?", "solution": "4"}, r"solution: .*\\boxed"),
    "an open box": ("math", {"problem": "?", "solution": r"\boxed{4"}, "solution"),
    "an empty box": ("math", {"problem": "?", "solution": r"\boxed{}"}, "solution"),
    "no problem": ("math", {"solution": r"\boxed{4}"}, "problem: expected a text"),
    "no choices": ("mmlu", {"question": "?", "answer": 0}, "choices: expected a list"),
    "one choice": ("mmlu", {"question": "?", "choices": ["a"], "answer": 0}, "2 to 10"),
    "eleven choices": (
        "mmlu",
        {"question": "?", "choices": ["a"] * 11, "answer": 0},
        "choices: expected a list of 2 to 10",
    ),
    "choices that are no texts": (
        "mmlu",
        {"question": "?", "choices": ["a", 2], "answer": 0},
        "choices",
    ),
    "a text as choices": (
        "mmlu",
        {"question": "?", "choices": "ab", "answer": 0},
        "ch",
    ),
    "an answer beyond": (
        "mmlu",
        {"question": "?", "choices": ["a", "b"], "answer": 2},
        "answer: expected 0 to 1 or A to B, found 2",
    ),
    "a negative answer": (
        "mmlu",
        {"question": "?", "choices": ["a", "b"], "answer": -1},
        "answer: expected 0 to 1",
    ),
    "a truth as answer": (
        "mmlu",
        {"question": "?", "choices": ["a", "b"], "answer": True},
        "answer: expected 0 to 1",
    ),
    "a letter beyond": (
        "mmlu",
        {"question": "?", "choices": ["a", "b"], "answer": "C"},
        "answer: expected",
    ),
    "two letters": (
        "mmlu",
        {"question": "?", "choices": ["a", "b"], "answer": "AB"},
        "answer: expected",
    ),
}


@pytest.mark.parametrize(("name", "row", "expected"), LINES.values(), ids=LINES.keys())
def test_a_bad_record_is_named_by_file_line_and_field(name, row, expected, tmp_path):
    path = write(tmp_path / "bad.jsonl", [*ROWS[name], row])
    with pytest.raises(ValueError, match=rf"bad\.jsonl, line 3: .*{expected}"):
        jsharp.tasks.load(name, test=path)


BYTES = {
    "no json": (b"{nonsense\n", "line 1: expected a JSON object, found b'{nonsense"),
    "a list": (b"\n[1]\n", "line 2: expected a JSON object"),
    "no utf-8": (b'{"question": "\xff"}\n', "line 1: expected a JSON object"),
    "deep": (b"[" * 10**5 + b"\n", "line 1: expected a JSON object"),
    "empty": (b"", "expected at least one problem, found none in 0 records"),
    "blank": (b"\n \n", "expected at least one problem"),
}


@pytest.mark.parametrize(("content", "expected"), BYTES.values(), ids=BYTES.keys())
def test_what_is_no_json_lines_is_refused(content, expected, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"bad.jsonl.*{expected}"):
        jsharp.tasks.load("gsm8k", test=path)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    path = write(tmp_path / "a.jsonl", ROWS["gsm8k"])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(jsharp.tasks.load("gsm8k", test=path).held_out) == 2


@pytest.mark.parametrize(
    "content", [b"plain", gzip.compress(b"x" * 999)[:-9]], ids=["plain", "cut"]
)
def test_a_torn_gzip_is_refused(content, tmp_path):
    path = tmp_path / "bad.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="bad.jsonl.gz"):
        jsharp.tasks.load("gsm8k", train=path)


def test_missing_and_unknown_files_are_refused(name, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file .*none.jsonl"):
        jsharp.tasks.load(name, test=tmp_path / "none.jsonl")
    with pytest.raises(FileNotFoundError):
        jsharp.tasks.load(name, test=tmp_path)
    (tmp_path / "a.csv").write_text("question,answer\n")
    with pytest.raises(ValueError, match="a.csv: expected a file that ends in .jsonl"):
        jsharp.tasks.load(name, train=tmp_path / "a.csv")
    with pytest.raises(ValueError, match=f"task {name} .*--train-data or --eval-data"):
        jsharp.tasks.load(name)


@pytest.mark.parametrize("name", jsharp.tasks.names())
def test_a_task_that_makes_its_problems_takes_no_file(name, tmp_path):
    with pytest.raises(
        ValueError, match=f"task {name} .*--train-data.*found .*x.jsonl"
    ):
        jsharp.tasks.load(name, test=tmp_path / "x.jsonl")


def test_names_are_those_of_either_kind():
    assert jsharp.tasks.names() == ("arithmetic", "game24", "prontoqa", "sums")
    assert jsharp.tasks.file_names() == ("gsm8k", "math", "mmlu")
    with pytest.raises(
        ValueError, match="'chess'; expected .*prontoqa, sums, gsm8k, math"
    ):
        jsharp.tasks.load("chess")


def test_parquet_is_read_like_json_lines(name, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{**row, "answer": 1} if name == "mmlu" else row for row in ROWS[name]]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    write(tmp_path / "a.jsonl", rows)
    found, expected = (
        jsharp.tasks.load(name, test=tmp_path / f"a.{kind}").held_out
        for kind in ("parquet", "jsonl")
    )
    assert found == expected
    bad = [*rows, dict.fromkeys(rows[0])]
    parquet.write_table(pyarrow.Table.from_pylist(bad), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="b.parquet, row 3: .*found None"):
        jsharp.tasks.load(name, test=tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(ValueError, match="c.parquet, .*expected Parquet"):
        jsharp.tasks.load(name, test=tmp_path / "c.parquet")


def test_parquet_without_its_reader_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"pip install 'jsharp\[data\]'"):
        jsharp.tasks.load("gsm8k", test=tmp_path / "a.parquet")
