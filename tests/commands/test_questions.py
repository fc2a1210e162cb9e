"""Questions of files and of tasks: what is asked, how it is marked, what is refused."""

import json

import pytest
from tiny_checkpoint import write

from jsharp import tasks
from jsharp.commands.questions import Source, from_files, read
from jsharp.commands.settings import ModelSettings
from jsharp.lm import embedded
from jsharp.lm.tokenizer import Tokenizer

SETTINGS = ModelSettings()


@pytest.fixture
def ask(checkpoint):
    def asked(room=6, taken=(), **source):
        return read(
            Source(**source), SETTINGS, checkpoint.directory, room=room, taken=taken
        )

    return asked


def test_of_a_file(ask, prompts, checkpoint):
    found = ask(prompts=prompts)
    assert [entry.id for entry in found.entries] == ["first", "2", "third", "4", "5"]
    assert list(found.entries[0].ids) == checkpoint.tokenizer.encode("ab")
    assert found.correct is None and found.answer(" ab \n") == "ab"
    assert found.identity["count"] == 5 and found.identity["marked_by"] is None
    few = ask(prompts=prompts, limit=2)
    assert few.entries == found.entries[:2]
    assert few.identity["questions"] != found.identity["questions"]


def test_a_grader_marks_against_the_field_answer(ask, tmp_path):
    records = [{"prompt": "ab", "answer": "7"}, {"prompt": "ba", "answer": 8}]
    path = write(tmp_path / "asked.jsonl", records)
    found = ask(prompts=path, grader="last_number")
    assert found.answer("so it is 3 or 7") == "7" and found.answer("none") is None
    marks = [[found.correct(p, f"it is {n}") for n in (7, 8)] for p in (0, 1)]
    assert marks == [[True, False], [False, True]]
    # The identity pins what is right, and who says so.
    other = write(tmp_path / "other.jsonl", [records[0], records[1] | {"answer": 9}])
    given = (path, "last_number"), (other, "last_number"), (path, "exact")
    seen = [ask(prompts=file, grader=name).identity for file, name in given]
    assert len({json.dumps(each) for each in seen}) == 3


@pytest.mark.parametrize("answer", [None, True, [1], {}])
def test_an_answer_that_is_none(ask, tmp_path, answer):
    path = write(tmp_path / "asked.jsonl", [{"prompt": "ab", "answer": answer}])
    with pytest.raises(ValueError, match="id '1': answer: expected a text or a number"):
        ask(prompts=path, grader="exact")


def test_an_answer_that_the_grader_cannot_mark(ask, tmp_path):
    records = [{"prompt": "a", "answer": 7}, {"id": "b", "prompt": "b", "answer": "x"}]
    path = write(tmp_path / "asked.jsonl", records)
    with pytest.raises(
        ValueError, match="id 'b': answer: expected a number, found 'x'"
    ):
        ask(prompts=path, grader="last_number")


@pytest.mark.parametrize("part", ["train", "held_out"])
def test_of_a_task(part):
    directory = embedded.directory()
    source = Source(task="game24", part=part, limit=3)
    found = read(source, SETTINGS, directory, room=30, taken=())
    task = tasks.load("game24")
    problems = (task.train if part == "train" else task.held_out)[:3]
    assert len(found.entries) == 3
    for place, (entry, problem) in enumerate(zip(found.entries, problems, strict=True)):
        assert entry.prompt == task.prompt(problem)
        assert list(entry.ids) == Tokenizer.load(directory).encode(entry.prompt)
        assert entry.id == f"game24-{part}-{place}"
        right = task.solutions(problem)[0]
        assert found.correct(place, right) and not found.correct(place, "1+1=2")
        assert found.answer(right) == task.answer(right)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "--task must be given, or else --prompts, found --task None"),
        ({"task": "game24", "prompts": "x"}, "--task must be given, or else"),
        ({"prompts": "x", "data": "y"}, "--data must be left out with --prompts"),
        ({"task": "game24", "grader": "exact"}, "--grader must be left out with --t"),
        ({"task": "game25"}, "no task 'game25'; expected one of"),
    ],
)
def test_refusals(ask, source, message):
    with pytest.raises(ValueError, match=message):
        ask(**source)


def test_a_prompt_without_room_and_a_field_that_is_taken(ask, prompts):
    with pytest.raises(ValueError, match="line 3: "):
        ask(prompts=prompts, room=28)
    with pytest.raises(ValueError, match="line 1: answer: the output has such a field"):
        ask(prompts=prompts, taken=("answer",))


def test_from_files():
    found = [from_files(name) for name in (None, "game24", "gsm8k", "math", "mmlu")]
    assert found == [False, False, True, True, True]
