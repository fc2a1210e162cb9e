"""`jsharp mode`: the certificate against enumeration of every response."""

import itertools
import re

import numpy as np
import pytest
from tiny_checkpoint import CONFIG, read, write

from jsharp.commands import mode

FIELDS = (
    "id prompt prompt_ids completion completion_ids finish_reason num_tokens logprob "
    "exact gap rounding mass_lower mass_upper ties expansions model"
).split()
PROMPTS = [{"prompt": "ab", "answer": 7}, {"prompt": "d"}]
OPTIONS = ("--max-completion-length", 3, "--batch-size", 4)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("mode")
    return write(directory / "prompts.jsonl", PROMPTS), directory / "modes.jsonl"


def _every_response(law, prompt):
    """log pi(y|x) of all responses of at most 3 tokens, by the oracle."""
    found, tokens = {}, range(CONFIG.vocab_size)
    for first, second in itertools.product(tokens, tokens):
        laws = law([*prompt, first, second])[len(prompt) - 1 :]
        if first == 0:
            found[(0,)] = laws[0, 0]
        elif second == 0:
            found[first, 0] = laws[0, first] + laws[1, 0]
        else:
            begun = laws[0, first] + laws[1, second]
            found |= {(first, second, t): begun + laws[2, t] for t in tokens}
    return found


def test_it_is_the_best_of_all_responses(files, call, law, checkpoint):
    path, output = files
    status, said = call("mode", path, "--output", output, *OPTIONS)
    assert status == 0 and "2 of 2 modes exact" in said
    masses = []
    for record, given in zip(read(output), PROMPTS, strict=True):
        assert list(record) == FIELDS + [k for k in given if k != "prompt"]
        every = _every_response(law, record["prompt_ids"])
        assert np.exp(list(every.values())).sum() == pytest.approx(1, abs=1e-6)
        best = max(every, key=every.__getitem__)
        assert tuple(record["completion_ids"]) == best and record["exact"] is True
        assert record["ties"] == [list(best)] and record["gap"] == 0
        assert record["logprob"] == pytest.approx(every[best], abs=2e-5)
        mass = np.exp(every[best])
        assert record["mass_lower"] == record["mass_upper"] == pytest.approx(mass, 1e-5)
        text = checkpoint.tokenizer.decode([t for t in best if t])
        assert record["completion"] == text and record["num_tokens"] == len(best)
        assert record["finish_reason"] == ("length" if best[-1] else "stop")
        masses.append(mass)
    told = re.search(r"C_cov on these prompts: (\S+) to (\S+);", said)
    assert told and told[1] == told[2] == f"{np.mean(1 / np.array(masses)):.4g}"


def test_cut_anywhere_it_ends_in_the_same_bytes(files, call):
    path, output = files
    whole = output.read_bytes()
    middle = whole.index(b"\n") + 1
    for size in (3, middle - 1, middle, middle + 1, len(whole) - 1):
        output.write_bytes(whole[:size])
        assert call("mode", path, "--output", output, *OPTIONS)[0] == 0
        assert output.read_bytes() == whole


def test_a_budget_that_ends_leaves_the_gap(files, tmp_path, call, law):
    output = tmp_path / "cut.jsonl"
    status, said = call("mode", files[0], "--output", output, *OPTIONS, "--budget", 1)
    assert status == 0
    records = read(output)
    assert any(not record["exact"] for record in records)
    assert f"{sum(r['exact'] for r in records)} of 2 modes exact" in said
    told = re.search(r"C_cov on these prompts: (\S+) to (\S+);", said)
    mean = lambda name: np.mean([1 / record[name] for record in records])
    assert told and told[1] == f"{mean('mass_upper'):.4g}"
    assert told[2] == f"{mean('mass_lower'):.4g}" != told[1]
    for record in records:
        best = max(_every_response(law, record["prompt_ids"]).values())
        upper = record["logprob"] + record["gap"] + record["rounding"]
        assert record["expansions"] <= 1 and best <= upper
        assert record["exact"] == (record["gap"] == 0)
        bound = min(1.0, np.exp(record["logprob"] + record["gap"]))
        assert record["exact"] or record["mass_upper"] == pytest.approx(bound)
        assert record["mass_lower"] <= np.exp(best) + 1e-6
        assert np.exp(best) <= record["mass_upper"] + 1e-6


def test_a_mass_below_the_smallest_float_has_no_finite_inverse():
    records = [{"exact": True, "mass_lower": 0.0, "mass_upper": 0.0}]
    assert mode._summary(records).endswith("inf to inf")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--budget", 0, "--budget must be at least 1, found 0"),
        ("--tolerance", "nan", "--tolerance must be finite and at least 0, found nan"),
        ("--batch-size", 0, "--batch-size must be at least 1, found 0"),
    ],
)
def test_a_bad_option_is_named(files, tmp_path, call, option, value, message):
    given = ("--output", tmp_path / "out", *OPTIONS, option, value)
    status, said = call("mode", files[0], *given)
    assert status == 2 and message in said and not (tmp_path / "out").exists()
