"""Write tests/lm/fixtures/tokenizers: tiny tokenizers, and what AutoTokenizer says.

    pip install "jsharp[hf]" && python tests/lm/make_tokenizers.py

One folder for each way in which checkpoints come: the files, as they lie on the Hub, a
chat template, and expected.json with the ids and texts of AutoTokenizer 5.23. The texts
and the conversations are shared (torture.json). Only `transformers` and `tokenizers`
are needed.
"""

import json
import random
import shutil
from pathlib import Path

import tokenizers
from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer

FIXTURES = Path(__file__).parent / "fixtures" / "tokenizers"
TEMPLATES = FIXTURES / "templates"
CORPUS = [
    "The quick brown fox jumps over the lazy dog, and then the other one.",
    "What is 12 + 34? The answer is 46. What is 120 * 3? It is 360.",
    "def f(x, y=1):\n    return [x ** 2 for _ in range(10)]  # a comment\n",
    "Sharpening is self-improvement of a language model by its own likelihood.",
    "Ça coûte 3,50 €, café crème à l'été; naïve, Übergröße, Ångström.",
    "Привет, мир! Это проверка. Γειά σου Κόσμε. 你好，世界。 안녕하세요",
    "  indented\n\n\twith tabs and    runs of space   \n",
    "user assistant system [INST] hello [/INST] I'm, you're, they'll, don't",
] * 4
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_SPLIT = LLAMA3_SPLIT.replace("{1,3}", "")

TEXTS = [
    "",
    " ",
    "  ",
    "\n",
    "\r\n",
    " \t \n\r\n  x",
    "Hello",
    " Hello",
    "  Hello world  ",
    "Hello  world   again    here",
    "trailing space ",
    "tab\tand\nnewline\r\nCRLF\rCR",
    "\n\n\nthree newlines",
    "▁metaspace ▁ itself ▁▁",
    "e\u0301 é a\u0308\u0323 \u1e9b\u0323 ﬁ Å \u212b",
    "👩‍👩‍👧‍👦 👍🏽 🇫🇷 ☃️",
    "שלום עולם مرحبا \u202eabc\u202c",
    "你好，世界。안녕하세요 こんにちは",
    "nul \x00 bell \x07 esc \x1b del \x7f",
    "\ufeffBOM \ufffd replacement \u200b zero \u00a0 nbsp \u2028 line \u3000 wide",
    "\U0010fffd\ue000 private \U0001d54f math",
    "<s>", "</s>", "<unk>", "<pad>", "[INST] x [/INST]",
    "a<s>b</s> c <s> d",
    "<s> <s>  text</s>\n\n",
    "<|endoftext|>", "<|im_start|>user\nhi<|im_end|>\n",
    " <|im_end|> x", "<|end|> \n x <|end|>\t<|user|>  y<|assistant|>",
    "<|begin_of_text|>a<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
    "<|im_end", "< |end| >", "<0x41><0x0A>", "&lt;s&gt;", "<tool>x</tool> y",
    "antidisestablishmentarianism" * 8,
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "0 1 12 123 1234 12345 3.14159 1,000,000 1e-5 ١٢٣ ²³ ½",
    "def f(x):\n    return x**2  # ok\n\n\nclass A: pass\n",
    "I'm YOU'RE don't they'LL it's 'quoted' ''",
    "!!! ??? ... --- *** ### $$$ ://",
    "mixed Привет café 你好 42",
]  # fmt: skip

USER, SYSTEM, ANSWER = (
    {"role": "user", "content": "What is 1+1?"},
    {"role": "system", "content": "  Be brief.\n"},
    {"role": "assistant", "content": " 2. "},
)
TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "<b>é</b> & 'so'", "parameters": {}},
}
CHATS = [
    {"messages": [USER]},
    {"messages": [SYSTEM, USER]},
    {"messages": [USER, ANSWER, {"role": "user", "content": "Sûr? 👍🏽\n\n"}]},
    {"messages": [{"role": "user", "content": "<s>[INST]<|im_end|><|eot_id|><|end|>"}]},
    {"messages": [{**USER, "tool_calls": None, "name": "Zoë"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "parts"}]}]},
    {"messages": [USER, USER]},
    {"messages": [ANSWER]},
    {"messages": [{"role": "user", "content": ""}]},
    {"messages": [USER], "tools": [TOOL]},
    {"messages": [USER, {**ANSWER, "reasoning": "one and one"}, USER]},
    {"messages": [USER], "variables": {"enable_thinking": False}},
]


def bpe(split, *, fallback: bool, size: int) -> tuple[dict[str, int], list]:
    """Vocabulary and merges trained on the corpus; bytes first where `fallback`."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = split
    alphabet = [] if fallback else pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(CORPUS, trainer)
    model = json.loads(inner.to_str())["model"]
    names = ["<unk>", "<s>", "</s>"] + [f"<0x{i:02X}>" for i in range(256)]
    trained = sorted(model["vocab"], key=model["vocab"].get)
    order = [*(names if fallback else []), *trained]
    return {t: i for i, t in enumerate(order)}, list(map(tuple, model["merges"]))


def special(text: str, **flags) -> AddedToken:
    return AddedToken(text, special=True, normalized=False, **flags)


def sentencepiece(added: list[AddedToken]) -> tokenizers.Tokenizer:
    """Llama-2's tokenizer.json: spaces become ▁ by normalisation, bytes fall back."""
    vocab, merges = bpe(pre_tokenizers.Metaspace(), fallback=True, size=190)
    inner = tokenizers.Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    inner.add_special_tokens([special(t) for t in ("<unk>", "<s>", "</s>")])
    inner.add_tokens(added)
    return inner


def bytelevel(split, added, *, normalizer=None, bos=None) -> tokenizers.Tokenizer:
    vocab, merges = bpe(split, fallback=False, size=380)
    inner = tokenizers.Tokenizer(models.BPE(vocab, merges))
    inner.normalizer, inner.pre_tokenizer = normalizer, split
    inner.decoder = decoders.ByteLevel()
    inner.add_tokens(added)
    post = processors.ByteLevel(trim_offsets=False)
    if bos is not None:
        template = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos} $B",
            special_tokens=[(bos, inner.token_to_id(bos))],
        )
        post = processors.Sequence([post, template])
    inner.post_processor = post
    return inner


def regex(pattern: str):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def decoder(inner: tokenizers.Tokenizer) -> dict[str, dict]:
    """`added_tokens_decoder` as transformers 4 writes it."""
    keys = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    found = inner.get_added_tokens_decoder()
    return {str(i): {k: getattr(t, k) for k in keys} for i, t in found.items()}


def template(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text("utf-8")


def llama2() -> None:
    """TinyLlama's files: the class rebuilds the pipeline, tokenizer.json is legacy."""
    inner = sentencepiece([])
    config = {
        "add_bos_token": True,
        "add_eos_token": True,  # which transformers 5 ignores
        "added_tokens_decoder": decoder(inner),
        "bos_token": "<s>",
        "eos_token": "</s>",
        "legacy": False,
        "pad_token": "</s>",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "chat_template": template("zephyr"),
    }
    write("llama2", "llama", inner, config, {"pad_token": "<unk>"})


def mistral() -> None:
    """Mistral 0.1: nearly the same files, taken as they stand; named templates."""
    inner = sentencepiece([])
    config = {
        "additional_special_tokens": [],
        "bos_token": "<s>",
        "eos_token": "</s>",
        "legacy": True,
        "pad_token": None,
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "chat_template": [
            {"name": "default", "template": template("mistral")},
            {"name": "tool_use", "template": template("tools")},
        ],
    }
    flags = {"lstrip": False, "normalized": False, "rstrip": False}
    specials = {"bos_token": {"content": "<s>", "single_word": False, **flags}}
    write("mistral", "mistral", inner, config, specials)


def phi3() -> None:
    """Phi-3: tokens that swallow the white space to their right, ids over a gap."""
    names = ("<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>")
    added = [special(t, rstrip=t != "<|endoftext|>") for t in names]
    added += [AddedToken("<tool>", lstrip=True, normalized=True)]
    inner = sentencepiece(added)
    # Phi-3 itself adds no token in front.
    inner.post_processor = processors.TemplateProcessing(
        single="$A", pair="$A $B", special_tokens=[]
    )
    config = {
        "add_bos_token": False,
        "add_eos_token": False,
        "added_tokens_decoder": decoder(inner),
        "bos_token": "<s>",
        "eos_token": "<|endoftext|>",
        "legacy": False,
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "chat_template": template("phi3"),
    }
    write("phi3", "phi3", inner, config)


def qwen2() -> None:
    """Qwen2.5, saved by transformers 5: rebuilt; NFC; the template is its own file."""
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    added = [*map(special, names), AddedToken("<tool>"), AddedToken("</tool>")]
    inner = bytelevel(regex(QWEN2_SPLIT), added, normalizer=normalizers.NFC())
    config = {
        "added_tokens_decoder": decoder(inner),
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
        "chat_template": template("qwen3"),
    }
    write("qwen2", "qwen2", inner, config)
    AutoTokenizer.from_pretrained(FIXTURES / "qwen2").save_pretrained(
        FIXTURES / "qwen2"
    )


def llama3() -> None:
    """Llama 3.1: one to three digits, the begin token by TemplateProcessing."""
    names = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>")
    names += ("<|end_header_id|>", "<|eot_id|>")
    inner = bytelevel(
        regex(LLAMA3_SPLIT), list(map(special, names)), bos="<|begin_of_text|>"
    )
    model = json.loads(inner.model.__getstate__())
    inner.model = models.BPE(
        model["vocab"], [tuple(m) for m in model["merges"]], ignore_merges=True
    )
    config = {
        "added_tokens_decoder": decoder(inner),
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "clean_up_tokenization_spaces": True,  # which transformers 5 ignores for BPE
        "model_max_length": 131072,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": template("llama3"),
    }
    write("llama3", "llama", inner, config)


def gpt2() -> None:
    """A Llama with GPT-2's class, whose digits transformers 5 no longer splits.

    tokenizer_config.json names tokens that tokenizer.json lacks, and there is no
    added_tokens_decoder: they are appended.
    """
    split = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)]
    )
    inner = bytelevel(split, [special("<|endoftext|>")])
    config = {
        "add_prefix_space": False,
        "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "extra_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "tokenizer_class": "GPT2Tokenizer",
    }
    specials = {"pad_token": "<pad>", "image_token": "<image>"}
    write("gpt2", "llama", inner, config, specials)


def write(name, model_type, inner, config, specials=None) -> None:
    folder = FIXTURES / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    inner.enable_truncation(7)  # left behind by many a training run; never applied
    inner.save(str(folder / "tokenizer.json"))
    dump(folder / "tokenizer_config.json", config)
    dump(folder / "config.json", {"model_type": model_type})
    if specials is not None:
        dump(folder / "special_tokens_map.json", specials)


def dump(path: Path, value, indent=None) -> None:
    text = json.dumps(value, ensure_ascii=True, indent=indent, separators=(",", ":"))
    path.write_text(text + "\n", "utf-8")


def chat(tokenizer, case: dict, generation: bool) -> dict:
    given = {"tools": case.get("tools"), "add_generation_prompt": generation}
    given |= case.get("variables", {})
    try:
        text = tokenizer.apply_chat_template(case["messages"], tokenize=False, **given)
    except Exception as error:
        return {"error": str(error)}
    ids = tokenizer.apply_chat_template(case["messages"], **given)["input_ids"]
    return {"text": text, "ids": ids}


def expect(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    draw = random.Random(0)
    plain = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in TEXTS]
    marked = [tokenizer(text)["input_ids"] for text in TEXTS]
    size = len(tokenizer) + 5  # a model's vocabulary is often padded
    fragments = [[draw.randrange(size) for _ in range(9)] for _ in range(40)]
    # Cut in the middle of a character, as a sampler may be.
    fragments += [ids[at : at + 7] for ids in marked for at in (0, 1) if len(ids) > 8]
    rows = [*marked, *fragments]
    expected = {
        "class": type(tokenizer).__name__,
        "size": len(tokenizer),
        "special_tokens": tokenizer.special_tokens_map,
        "plain": plain,
        "special": marked,
        "fragments": fragments,
        "decoded": [tokenizer.decode(ids) for ids in rows],
        "skipped": [tokenizer.decode(ids, skip_special_tokens=True) for ids in rows],
    }
    if tokenizer.chat_template is not None:
        flags = (False, True)
        expected["chats"] = [[chat(tokenizer, c, g) for g in flags] for c in CHATS]
    dump(folder / "expected.json", expected)


def main() -> None:
    for make in (llama2, mistral, phi3, qwen2, llama3, gpt2):
        make()
        folder = FIXTURES / make.__name__
        expect(folder)
        raw = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        dump(folder / "tokenizer.json", raw)
    dump(FIXTURES / "torture.json", {"texts": TEXTS, "chats": CHATS})


if __name__ == "__main__":
    main()
