"""Malformed inputs: what is wrong, the command, and what its message must hold.

In a command line {bad} is the directory of `bad_files.make`, {model} names its good
model, and {to}, {dir} and {new} are where nothing is: an output, a directory of a run,
a path.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Case(NamedTuple):
    """One fault; all of `says` must be in the message, white space apart."""

    fault: str
    line: str
    says: tuple[str, ...]


Row = tuple[str, ...]  # the fault, what completes the line, and what is said


def _cases(line: str, rows: Sequence[Row], *say: str) -> list[Case]:
    """%s in the line, and in `say`, is a row's second part."""
    return [
        Case(fault, line % name, (*(s.replace("%s", name) for s in say), *says))
        for fault, name, *says in rows
    ]


_MODEL = " --model-name-or-path {bad}/"
_SHORT = " --max-completion-length 4"  # the good model has 64 positions

_PROMPTS: list[Row] = [
    ("no such file", "absent.jsonl", "no file"),
    ("a directory", "model", "no file"),
    ("an empty file", "empty.jsonl", "at least one record"),
    ("nothing but blank lines", "blank.jsonl", "at least one record"),
    ("a torn last line", "torn.jsonl", "line 2: expected a JSON object", '"pro'),
    ("bytes of no text", "binary.jsonl", "line 1: expected a JSON object", "utf-8"),
    ("UTF-16", "utf16.jsonl", "line 1: expected a JSON object", "utf-8"),
    ("Latin-1", "latin1.jsonl", "line 1: expected a JSON object", "utf-8"),
    ("a JSON array", "array.jsonl", "line 1: expected a JSON object, got [{"),
    ("an object over several lines", "pretty.jsonl", "line 1: expected a JSON object"),
    ("a CSV file", "table.jsonl", "line 1: expected a JSON object", "id,prompt"),
    ("brackets 100,000 deep", "deep.jsonl", "line 1: expected a JSON object", "[["),
    ("a key twice", "twice.jsonl", "line 1", "'prompt' occurs twice"),
    ("NaN", "nan.jsonl", "line 1", "NaN is not JSON"),
    ("a number beyond floats", "huge.jsonl", "line 1: expected finite numbers"),
    (
        "a record without a prompt",
        "no-prompt.jsonl",
        "line 2: prompt: expected",
        "None",
    ),
    ("a number as prompt", "number.jsonl", "line 1: prompt: expected", "got 12"),
    ("an empty prompt", "no-text.jsonl", "line 1: prompt: expected", "got ''"),
    ("texts for messages", "strings.jsonl", "line 1: prompt: message 0: expected"),
    ("a message without a role", "no-role.jsonl", "message 0: role: expected", "None"),
    ("an answered conversation", "answered.jsonl", "the last message is an answer"),
    ("messages, no template", "messages.jsonl", "line 1: prompt: no chat template"),
    ("a fraction as id", "id-float.jsonl", "line 1: id: expected an integer", "1.5"),
    ("an id twice", "id-again.jsonl", "line 2: id: expected a new one", "'q1'"),
    ("an id that is another's line", "id-line.jsonl", "line 2: id: expected", "'2'"),
    ("a prompt too long", "long.jsonl", "line 1: prompt: expected at most 60", "61"),
    ("a character of no token", "letter.jsonl", "line 1: prompt: no token for ['x']"),
    ("ids as texts", "ids-text.jsonl", "line 1: prompt_ids: expected a list of int"),
    ("an id outside", "ids-large.jsonl", "line 1: prompt_ids: expected ids", "4096"),
    ("a field of the output", "taken.jsonl", "line 1: completion: the output has"),
    ("a torn gzip file", "torn.jsonl.gz", "after line", "torn gzip"),
    ("a .gz that is none", "plain.jsonl.gz", "after line 0: torn gzip: Not a gzip"),
]
_COMPLETIONS: list[Row] = [
    ("no completion", "no-completion", "completion: expected it, or completion_ids"),
    ("a number as completion", "completion-number", "completion: expected a string"),
    ("completion ids outside", "completion-large", "completion_ids: expected ids from"),
    ("a wrong num_tokens", "count", "num_tokens: expected 1, found 7"),
    ("both too long together", "both-long", "64 positions, found 40 + 40"),
]
_ANSWERS: list[Row] = [
    ("no answer to mark by", "no-answer.jsonl --grader exact", "'q1': answer: expect"),
    ("a list as answer", "answer-list.jsonl --grader exact", "answer: exp", "['3']"),
    ("an unknown grader", "good.jsonl --grader exat", "--grader must be one", "exat"),
]
_PROBLEMS: list[Row] = [
    ("an answer without ####", "gsm8k", "gsm8k.jsonl, line 1: answer: expected steps"),
    ("a solution without \\boxed{}", "math", "math.jsonl, line 1: solution: expected"),
    ("an answer of no choice", "mmlu", "mmlu.jsonl, line 1: answer: expected 0 to 1"),
]
_FILES: list[Row] = [
    ("fields of another task", "math.jsonl", "line 1: ", "no such field"),
    ("problems in CSV", "problems.csv", "expected a file that ends in .jsonl"),
    ("Parquet that is none, or has no reader", "problems.parquet", "Parquet"),
]
_CHECKPOINTS: list[Row] = [
    ("no such directory", "absent", "--model-name-or-path: expected", "config.json"),
    ("a file for a directory", "good.jsonl", "--model-name-or-path: expected"),
    ("no config.json", "no-config", "--model-name-or-path: expected", "config.json"),
    ("a torn config.json", "torn-config", "config.json is not JSON"),
    ("an unknown architecture", "gpt2", "config.json: architectures: expected", "GPT2"),
    ("a text for a size", "text-size", "config.json: hidden_size: expected int", "'8'"),
    ("quantised weights", "quantised", "config.json: quantization_config", "gptq"),
    ("an end token outside", "end-outside", "eos_token_id expected 0 to", "4096"),
    ("a torn generation config", "torn-generation", "generation_config.json is not"),
    ("no weights", "no-weights", "no model.safetensors in"),
    ("weights in a pickle", "pickle", "only pytorch_model.bin: a pickle"),
    ("torn weights", "torn-weights", "model.safetensors is torn"),
    ("a missing tensor", "missing-tensor", "model.safetensors lacks model.norm.weight"),
    ("a tensor too many", "more-tensors", "model.safetensors has unexpected extra"),
    ("a wrong shape", "wrong-shape", "q_proj.weight expected shape (8, 8)", "(4, 8)"),
    ("weights of integers", "integers", "model.norm.weight expected one of", "I8"),
    ("an index that leads outside", "escaping", "index.json: expected weight_map"),
    ("no tokenizer", "no-tokenizer", "no tokenizer.json in"),
    ("a torn tokenizer", "torn-tokenizer", "tokenizer.json is not a tokenizer"),
    ("a torn chat template", "bad-template", "chat_template.jinja, line 2: not a temp"),
]
_ADAPTERS: list[Row] = [
    ("no adapter there", "model", "no adapter_config.json in model"),
    ("an adapter of another kind", "dora", "adapter_config.json: use_dora: not supp"),
    ("an adapter of another model", "other-adapter", "adapter_model.safetensors lacks"),
]
_SAMPLING: list[Row] = [
    ("no output", "", "--output"),
    ("a misspelt option", "{to} --num-generation 4", "--num-generation", "-n, --num-"),
    ("a text for a number", "{to} -n many", "--num-generations", "'many'"),
    ("no responses", "{to} -n 0", "--num-generations must be at least 1, found 0"),
    ("a negative temperature", "{to} --temperature -1", "temperature: expected", "-1"),
    ("a mass above 1", "{to} --top-p 1.5", "top_p: expected", "1.5"),
    ("a seed beyond 2^31", "{to} --seed 2147483648", "--seed must be 0 to 2^31 - 1"),
    ("an unknown type", "{to} --dtype float64", "'--dtype'", "'float64'", "bfloat16"),
    ("torn words for a template", "{to} --chat-template-kwargs {{", "a JSON object"),
    ("equal draws", "{to} --temperature 0 -n 2", "--num-generations must be 1 at temp"),
    ("a limit of 0", "{to} --limit 0", "--limit must be above 0, found 0"),
    (
        "responses longer than the model",
        "{to} --max-completion-length 64",
        *("--max-completion-length must leave room", "64 positions"),
    ),
]
_OPTIONS: list[Row] = [
    (
        "an output where none can be written",
        "sample {bad}/good.jsonl {model} --output /proc/new.jsonl" + _SHORT,
        "/proc/new.jsonl: expected a file to write to",
    ),
    ("a misspelt command", "sampel", "no command 'sampel'", "'sample'"),
    ("no input", "sample {to}", "INPUT"),
    ("no budget", "mode {bad}/good.jsonl {to} --budget 0", "--budget must be at least"),
    (
        "a tolerance that is no number",
        "mode {bad}/good.jsonl {to} --tolerance nan",
        *("--tolerance must be finite", "nan"),
    ),
    (
        "a size in bananas",
        "convert {bad}/model {new} --max-shard-size 5bananas",
        *("--max-shard-size must be a size", "5bananas"),
    ),
    ("a level of 2", "evaluate --task game24 {dir} --level 2", "--level must be betw"),
    (
        "no question",
        "evaluate {dir} {model}",
        "--task must be given, or else --prompts",
    ),
    (
        "nothing to compare",
        "evaluate --compare {bad}/model {new}",
        "--compare: expected",
    ),
    (
        "modes that are not there",
        "evaluate --prompts {bad}/good.jsonl {dir} {model} --modes {bad}/no.jsonl"
        + _SHORT,
        *("--modes: expected the output of `jsharp mode`", "no.jsonl"),
    ),
    (
        "a base of another alphabet",
        "evaluate --prompts {bad}/good.jsonl {dir} {model} --base-model-name-or-path "
        "{bad}/other-alphabet" + _SHORT,
        "--base-model-name-or-path: expected the ids",
    ),
    (
        "a diagnosis that is none",
        "diagnose --check {bad}/good.jsonl {bad}/model",
        *("good.jsonl", "diagnos"),
    ),
    ("an eps of 1", "diagnose {bad}/model game24 {dir} --eps 1", "--eps must be in"),
    ("no such task", "diagnose {bad}/model chess {dir}", "PROMPTS: expected a file of"),
    ("shares that sum to 2", "pretrain {dir} --weights 1 1", "weights: expected posit"),
    ("an unknown task", "pretrain {dir} --tasks chess --weights 1", "no task 'chess'"),
]
_TRAINING: list[Row] = [
    ("a misspelt algorithm", "stf", "no algorithm 'stf'", "'sft'"),
    ("a misspelt preset", "sft --preset papper", "--preset must be one of", "'papper'"),
    ("nothing to train on", "sft", "--task must be given, or else --prompts"),
    (
        "two things to train on",
        "sft --task game24 --prompts {bad}/good.jsonl",
        *("--task must be given, or else --prompts", "game24", "good.jsonl"),
    ),
    ("a misspelt task", "sft --task gmae24", "no task 'gmae24'", "game24"),
    ("a task of files, no file", "sft --task gsm8k", "--train-data must be", "gsm8k"),
    (
        "a file for a task that needs none",
        "sft --task game24 --train-data {bad}/good.jsonl",
        *("game24", "--train-data", "good.jsonl"),
    ),
    ("a torn file of prompts", "sft --prompts {bad}/torn.jsonl", "line 2: expected"),
    ("an unknown reward", "sft --task game24 --reward luck", "--reward must be one of"),
    ("a rate of 0", "sft --task game24 --learning-rate 0", "--learning-rate must be"),
    ("no interval", "sft --task game24 --save-steps 0", "--save-steps must be at"),
    ("an unknown sink", "sft --task game24 --report-to paper", "'paper'", "wandb"),
    (
        "parts that do not divide",
        "sft --task game24 --gradient-accumulation-steps 5",
        "--gradient-accumulation-steps must be a divisor of 32, found 5",
    ),
    (
        "a scale of no adapter",
        "sft --task game24 --lora-alpha 8",
        "--lora-alpha must be left out where --lora-r is 0, found 8",
    ),
    (
        "an unknown projection",
        "sft --prompts {bad}/good.jsonl --lora-r 2 --lora-targets q_porj",
        *("target 'q_porj' names no projection", "q_proj"),
    ),
    ("three to a pair", "rlhf --task game24 --num-generations 3", "must be even"),
    ("a delta of 2", "ada-sft --task game24 --delta 2", "--delta must be below 1"),
    ("one to leave out", "rloo --task game24 --num-generations 1", "be at least 2"),
    ("bases that move", "xpo --task game24 --rebase", "--rebase must be left out"),
    (
        "more rounds than prompts",
        "xpo --prompts {bad}/good.jsonl --rounds 5",
        "--rounds must be at most the 1 prompts, found 5",
    ),
    (
        "no such draws",
        "sft --prompts {bad}/good.jsonl --draws {bad}/no.jsonl",
        *("--draws", "no.jsonl"),
    ),
]
_OUTPUTS: list[Row] = [
    (
        "the output of another run",
        "outputs/other-seed.jsonl",
        "seed: ",
        "with 1, got 0",
    ),
    ("a file of no run", "outputs/unknown.jsonl", "no unknown.jsonl.run.json says"),
    ("a torn run.json", "outputs/torn-pin.jsonl", "torn-pin.jsonl.run.json: expected"),
    (
        "an output changed by hand",
        "outputs/edited.jsonl",
        "are not what this run wrote",
    ),
    ("a directory", "outputs", "--output must be a file, not a directory"),
    ("a packed output", "outputs/new.jsonl.gz", "--output must be a file that is not"),
    ("the input itself", "good.jsonl", "--output must be another file than INPUT"),
    ("a file as a directory", "good.jsonl/new.jsonl", "good.jsonl is a directory"),
]
_RUNS: list[Row] = [
    ("a run of another seed", "outputs/run", "config.json has 1, got 0"),
    ("a config.json of no run", "outputs/not-a-run", "expected the config of a run"),
    ("a torn config.json of a run", "outputs/torn-run", "expected the config of a run"),
    (
        "a checkpoint of another state",
        "outputs/other-state",
        "checkpoints/1: expected a",
    ),
    ("a file for a run", "good.jsonl", "--output-dir must be a directory"),
]

GROUPS: dict[str, list[Case]] = {
    "Prompts": _cases("sample {bad}/%s {to} {model}" + _SHORT, _PROMPTS, "%s"),
    "Completions": _cases(
        "score {bad}/%s.jsonl {to} {model}", _COMPLETIONS, "%s.jsonl, line 1"
    ),
    "Questions": [
        *_cases("evaluate --prompts {bad}/%s {dir} {model}" + _SHORT, _ANSWERS),
        *(
            Case(
                fault, f"evaluate --task {t} --data {{bad}}/{t}.jsonl {{dir}}", (says,)
            )
            for fault, t, says in _PROBLEMS
        ),
        *_cases("evaluate --task gsm8k --data {bad}/%s {dir} {model}", _FILES, "%s"),
    ],
    "Checkpoints": [
        *_cases("sample {bad}/good.jsonl {to}" + _MODEL + "%s" + _SHORT, _CHECKPOINTS),
        *_cases("convert {bad}/model {new} --adapter {bad}/%s", _ADAPTERS),
        *_cases(
            "train sft --prompts {bad}/good.jsonl {dir}" + _SHORT + _MODEL + "%s",
            [("a missing tensor, in training", "missing-tensor", "lacks model.norm")],
        ),
    ],
    "Options": [
        *_cases("sample {bad}/good.jsonl {model}" + _SHORT + " %s", _SAMPLING),
        *_cases("%s", _OPTIONS),
        *_cases("train %s {dir} {model}" + _SHORT, _TRAINING),
    ],
    "Outputs": [
        *_cases("sample {bad}/good.jsonl {model} --output {bad}/%s" + _SHORT, _OUTPUTS),
        *_cases(
            "train sft {model} --prompts {bad}/good.jsonl --output-dir {bad}/%s"
            + _SHORT,
            _RUNS,
        ),
        Case("a target", "convert {bad}/model {bad}/gpt2", ("gpt2 exists; choose",)),
    ],
}
