"""Write tests/lm/fixtures: random Llamas of transformers, and what they compute.

    pip install "jsharp[hf]" && python tests/lm/make_fixture.py

Each folder holds a checkpoint as `save_pretrained` writes it and expected.npz:
`tokens` [R T], their float32 `logits` [R T V], and `greedy` [R 12], the continuation
of each row by `generate` (no sampling), padded after its end token.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

FIXTURES = Path(__file__).parent / "fixtures"
ROWS, LENGTH, NEW = 4, 11, 12

SHAPES = {
    # Grouped queries, a head size of its own, an untied head, an unusual RoPE base.
    "grouped": dict(
        vocab_size=40,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 700.0},
        tie_word_embeddings=False,
        eos_token_id=[5, 6],
    ),
    "tied": dict(
        vocab_size=40,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=4,
        tie_word_embeddings=True,
        eos_token_id=5,
    ),
}


def make(name: str, shape: dict) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(**shape, initializer_range=0.3, bos_token_id=1, pad_token_id=0)
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():  # norms that start at one would hide mistakes
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    tokens = torch.randint(7, shape["vocab_size"], (ROWS, LENGTH))
    with torch.no_grad():
        logits = model(tokens).logits
        full = model.generate(tokens, max_new_tokens=NEW, do_sample=False)
    greedy = np.zeros((ROWS, NEW), np.int32)
    greedy[:, : full.shape[1] - LENGTH] = full[:, LENGTH:].numpy()
    folder = FIXTURES / name
    model.save_pretrained(folder)
    np.savez(
        folder / "expected.npz",
        tokens=tokens.numpy().astype(np.int32),
        logits=logits.numpy(),
        greedy=greedy,
    )


if __name__ == "__main__":
    for name, shape in SHAPES.items():
        make(name, shape)
