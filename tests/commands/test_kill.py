"""A longer run: compiled once, and killed by kill -9 it ends in the same bytes."""

import os
import signal
import subprocess
import sys
import time

import jax.monitoring
import pytest
from tiny_checkpoint import write

from jsharp.commands import sample, stream

PROMPTS = [{"prompt": "abcd"[: 1 + i % 4], "n": i} for i in range(80)]
OPTIONS = ("-n", 2, "--max-completion-length", 6, "--chunk-size", 1)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    return write(tmp_path_factory.mktemp("kill") / "prompts.jsonl", PROMPTS)


@pytest.fixture(scope="module")
def whole(prompts, checkpoint):
    """The output of a run without a break, and the compilations up to each chunk."""
    compiled, counts, append = [], [], stream.Output.append

    def listen(event, *_, **__):
        if "backend_compile" in event:
            compiled.append(event)

    def counted(output, records):
        append(output, records)
        counts.append(len(compiled))

    output = prompts.with_name("whole.jsonl")
    words = [prompts, "--output", output, *OPTIONS]
    words += ["--model-name-or-path", checkpoint.directory]
    jax.monitoring.register_event_duration_secs_listener(listen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream.Output, "append", counted)
        assert sample.main(list(map(str, words))) == 0
    jax.monitoring.unregister_event_duration_listener(listen)
    return output.read_bytes(), counts


def test_nothing_compiles_after_the_first_chunk_of_a_bucket(whole):
    counts = whole[1]
    assert len(counts) == len(PROMPTS) and counts[0] > 0
    assert counts[-1] == counts[0]


def test_sigkill(tmp_path, prompts, whole, call, checkpoint):
    content, killed = whole[0], tmp_path / "killed.jsonl"
    words = ["sample", prompts, "--output", killed, *OPTIONS]
    words += ["--model-name-or-path", checkpoint.directory]
    command = [sys.executable, "-m", "jsharp", *map(str, words)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ) as process:
        deadline = time.monotonic() + 120
        while not (killed.exists() and killed.stat().st_size > 2000):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    kept = killed.read_bytes()
    assert 2000 < len(kept) < len(content)
    assert content.startswith(kept)
    with killed.open("ab") as file:
        file.write(b'{"id": "torn')
    status, said = call("sample", prompts, "--output", killed, *OPTIONS)
    assert status == 0 and "going on behind record" in said
    assert killed.read_bytes() == content
