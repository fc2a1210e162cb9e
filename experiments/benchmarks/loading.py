"""Seconds and peak host memory of loading and saving, next to transformers.

    pip install "jsharp[hf]" && python -m experiments.benchmarks.loading

A random Llama of about 400 MB, in float32 and in bfloat16, in a process of its own each
time; the file is in the page cache. Peak memory is the rise of the process's largest
resident set (VmHWM of /proc/self/status, reset before; mapped pages of files count in
it) over its resident set before, as a multiple of the checkpoint's bytes: 1.3 at most.
"""

# pyright: reportMissingImports=false

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

ROUNDS = 3
SIZES: dict[str, Any] = dict(
    vocab_size=16000,
    hidden_size=1024,
    intermediate_size=2816,
    num_attention_heads=16,
    num_key_value_heads=8,
)
TINY = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
LAYERS = {"float32": 6, "bfloat16": 14}


def resident(key: str) -> int:
    """Bytes of VmRSS (now) or VmHWM (the most since the last reset)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return 1024 * int(line.split()[1])
    raise ValueError(f"no {key} in /proc/self/status")


def measured(action: Callable[[], T]) -> tuple[dict[str, float], T]:
    Path("/proc/self/clear_refs").write_text("5")
    before, start = resident("VmRSS"), time.perf_counter()
    found = action()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "bytes": resident("VmHWM") - before}, found


def make(directory: Path, dtype: str) -> None:
    import jax

    from jsharp.lm import huggingface, transformer
    from jsharp.lm.config import TransformerConfig

    config = TransformerConfig(**SIZES, num_hidden_layers=LAYERS[dtype], dtype=dtype)
    params = jax.jit(transformer.init, static_argnums=1)(jax.random.key(0), config)
    huggingface.save(directory, config, params, end=(2,), pad=0)


def ours(directory: Path) -> dict[str, dict[str, float]]:
    import jax
    import jax.numpy as jnp

    from jsharp.lm import huggingface

    jnp.zeros(1).block_until_ready()  # the backend's own memory is not the load's
    load = lambda: jax.block_until_ready(huggingface.load(directory))
    loading, found = measured(load)
    save = lambda: huggingface.save(
        directory / "out", found.config, found.params, end=found.end, pad=found.pad
    )
    saving, _ = measured(save)
    return {"load": loading, "save": saving}


def theirs(directory: Path) -> dict[str, dict[str, float]]:
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**TINY)
    )  # imports are not timed
    torch.zeros(1)
    load = lambda: transformers.AutoModelForCausalLM.from_pretrained(directory)
    loading, found = measured(load)
    # Its tensors may be pages of the file until they are read: read them once.
    total, _ = measured(lambda: sum(p.sum() for p in found.parameters()))
    saving, _ = measured(lambda: found.save_pretrained(directory / "out"))
    loading["seconds"] += total["seconds"]
    loading["bytes"] += total["bytes"]
    return {"load": loading, "save": saving}


def in_a_process(*arguments: str) -> dict[str, dict[str, float]]:
    command = [sys.executable, "-m", "experiments.benchmarks.loading", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(dtype: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), dtype)
        size = (Path(name) / "model.safetensors").stat().st_size
        for _ in range(ROUNDS):
            for who in ("ours", "theirs"):
                found = in_a_process(who, name)
                cells = [
                    f"{each['seconds']:.2f} | {each['bytes'] / size:.2f}"
                    for each in (found["load"], found["save"])
                ]
                print(f"| {dtype} | {size / 1e6:.0f} | {who} | {' | '.join(cells)} |")


def main() -> None:
    if len(sys.argv) == 3:
        measure = {"ours": ours, "theirs": theirs}[sys.argv[1]]
        print(json.dumps(measure(Path(sys.argv[2]))))
        return
    print("| type | MB | who | load s | load peak | save s | save peak |")
    print("|---|---|---|---|---|---|---|")
    for dtype in LAYERS:
        compare(dtype)


if __name__ == "__main__":
    main()
