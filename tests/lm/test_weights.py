"""Loading takes little more than the model, and each device reads its own part."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jsharp.lm import huggingface, transformer
from jsharp.lm.config import TransformerConfig

LIMIT = 1.3  # peak host memory, of the checkpoint's bytes

# 84 MB, so that what the interpreter allocates meanwhile does not count.
CONFIG = TransformerConfig(
    vocab_size=4000,
    hidden_size=1024,
    intermediate_size=1500,
    num_hidden_layers=2,
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=64,
)

PROGRAM = """
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jsharp.lm import huggingface, weights

def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))

def peak(directory, **settings):
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    found = jax.block_until_ready(huggingface.load(directory, **settings))
    leaves = jax.tree.leaves(found.params)
    size = sum(s.data.nbytes for leaf in leaves for s in leaf.addressable_shards)
    return (resident("VmHWM") - before) / size, size, found

assert jax.device_count() == 4
jnp.zeros(1).block_until_ready()
directory = sys.argv[1]
whole, _, plain = peak(directory)
narrow, _, _ = peak(directory, dtype="bfloat16")

mesh = jax.make_mesh((2, 2), ("rows", "columns"))
on = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))
column, row, everywhere = on(None, "columns"), on("columns"), on()
layer = {
    "attention_norm": everywhere,
    "attention": {"qkv": column, "out": row},
    "mlp_norm": everywhere,
    "mlp": {"gate_up": column, "down": on("columns", "rows")},
}
sharding = {"embedding": on("rows", "columns"), "head": on("rows"), "norm": everywhere}
sharding["layers"] = {0: layer, 1: layer}
asked = []
read = weights.read
weights.read = lambda *a: asked.append(read(*a)) or asked[-1]
spread, size, found = peak(directory, sharding=sharding)
where = jax.tree.broadcast(sharding, found.params)
for tree in zip(*map(jax.tree.leaves, (found.params, plain.params, where))):
    leaf, wanted, place = tree
    assert leaf.sharding == place
    np.testing.assert_array_equal(np.asarray(leaf), np.asarray(wanted))
print(whole, narrow, spread, sum(each.nbytes for each in asked) / size)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc")
def test_peak_memory_and_a_place_for_every_leaf(tmp_path):
    """In a process of its own, of four devices; mapped pages of files count."""
    draw = np.random.default_rng(0).standard_normal
    params = jax.tree.map(
        lambda leaf: draw(leaf.shape, np.float32),
        jax.eval_shape(lambda: transformer.init(jax.random.key(0), CONFIG)),
    )
    huggingface.save(tmp_path, CONFIG, params, end=(1,), pad=0, max_shard_bytes=10**7)
    flags = "--xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    whole, narrow, spread, asked = map(float, done.stdout.split())
    assert max(whole, narrow, spread) < LIMIT, done.stdout
    assert 0.99 < asked <= 1  # one read serves the copies of a small leaf
