"""The tokenizer files of a checkpoint, read the way AutoTokenizer reads them.

tokenizer.json is taken as it stands, except for the classes that transformers rebuilds
(tokenizer_class.py). `add_bos_token` and `add_eos_token` of tokenizer_config.json
decide nothing there, and nothing here: the post-processor of tokenizer.json alone says
which special tokens are added.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
from tokenizers import AddedToken

from jsharp import files
from jsharp.lm import tokenizer_class

TOKENIZER, CONFIG = "tokenizer.json", "tokenizer_config.json"
_SPECIAL_MAP, _ADDED = "special_tokens_map.json", "added_tokens.json"
TEMPLATE, TEMPLATES = "chat_template.jinja", "additional_chat_templates"
_OTHER_FORMATS = ("tokenizer.model", "tekken.json", "vocab.json", "vocab.txt")
_NAMED = tuple(f"{n}_token" for n in "bos eos unk sep pad cls mask".split())


class TokenizerFiles(NamedTuple):
    """The tokenizer, and its named special tokens: the variables of a template."""

    inner: tokenizers.Tokenizer
    special_tokens: dict[str, str]


def read(directory: str | Path) -> TokenizerFiles:
    """Read the tokenizer of a directory.

    Raises FileNotFoundError without tokenizer.json, and ValueError, naming the file and
    the field, where one is damaged, names a tokenizer class that is not known, or
    declares an added token under an id that it does not get.
    """
    directory = Path(directory)
    path = directory / TOKENIZER
    if not path.is_file():
        raise FileNotFoundError(_missing(directory))
    try:
        inner = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(f"{path} is not a tokenizer: {error}") from error
    text, config = path.read_text("utf-8"), read_object(directory / CONFIG)
    raw = json.loads(text)
    rebuild = _rebuild(directory, text, config) if "merges" in raw["model"] else None
    if rebuild is not None:
        inner, config = rebuild.build(inner, raw["model"], config)
    inner.no_truncation()
    inner.no_padding()
    inner.encode_special_tokens = bool(config.get("split_special_tokens", False))
    declared = _declared(directory, raw, config)
    named, extra = _named(directory, config, declared)
    _add(inner, declared, named, extra)
    if rebuild is not None and rebuild.respecial:
        unique = dict.fromkeys(map(_text, [*named.values(), *extra]))
        inner.add_tokens([AddedToken(token, special=True) for token in unique])
    for index, token in declared.items():
        found = inner.token_to_id(token.content)
        if found != index:
            raise ValueError(
                f"{directory}: added token {token.content!r}: expected id {index}, "
                f"the vocabulary of {TOKENIZER} gives it {found}"
            )
    return TokenizerFiles(inner, {key: _text(token) for key, token in named.items()})


def copy(source: str | Path, target: str | Path) -> list[str]:
    """Copy a checkpoint's tokenizer files byte for byte; the names of those copied."""
    source, target = Path(source), Path(target)
    names = [TOKENIZER, CONFIG, _SPECIAL_MAP, _ADDED, TEMPLATE]
    names += [*_OTHER_FORMATS, "merges.txt"]
    found = [source / name for name in names if (source / name).is_file()]
    found += sorted((source / TEMPLATES).glob("*.jinja"))
    for path in found:
        files.write_bytes(target / path.relative_to(source), path.read_bytes())
    return [str(path.relative_to(source)) for path in found]


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object of a file, empty where there is none; ValueError on others."""
    if not path.is_file():
        return {}
    try:
        raw = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: expected an object, got {type(raw).__name__}")
    return raw


def _missing(directory: Path) -> str:
    others = [name for name in _OTHER_FORMATS if (directory / name).is_file()]
    if not others:
        return f"no {TOKENIZER} in {directory}"
    return (
        f"no {TOKENIZER} in {directory}, only {', '.join(others)}: convert once with "
        f'transformers.AutoTokenizer.from_pretrained("{directory}")'
        f'.save_pretrained("{directory}")'
    )


def _rebuild(
    directory: Path, text: str, config: dict[str, Any]
) -> tokenizer_class.Rebuild | None:
    model = read_object(directory / "config.json")
    named = config.get("tokenizer_class") or model.get("tokenizer_class")
    try:
        return tokenizer_class.choose(
            model.get("model_type"), named, byte_level='"ByteLevel"' in text
        )
    except ValueError as error:
        raise ValueError(f"{directory / CONFIG}: {error}") from error


def _declared(
    directory: Path, raw: dict[str, Any], config: dict[str, Any]
) -> dict[int, AddedToken]:
    """Added tokens by id: of tokenizer_config.json or, without, of the older files."""
    if "added_tokens_decoder" in config:
        entries = config["added_tokens_decoder"]
        return {int(i): _token(CONFIG, entries[i]) for i in sorted(entries, key=int)}
    special = {_text(config[key]) for key in _NAMED if config.get(key)}
    special |= set(map(_text, _list(config.get("extra_special_tokens"))))
    found = {
        index: AddedToken(text, normalized=text not in special, special=text in special)
        for text, index in read_object(directory / _ADDED).items()
    }
    for entry in raw.get("added_tokens", []):
        found[entry["id"]] = _token(TOKENIZER, entry)
    return dict(sorted(found.items()))


def _named(
    directory: Path, config: dict[str, Any], declared: Mapping[int, AddedToken]
) -> tuple[dict[str, str | AddedToken], list[str | AddedToken]]:
    """The special tokens that have a name (bos_token, ...), and the others.

    In the order of _from_pretrained, which decides the ids of those that are appended.
    """
    config = dict(config)
    extra, others = "extra_special_tokens", "additional_special_tokens"
    if others in config and not config.get(extra):
        config[extra] = config.pop(others)
    more = [key for key in config if key.endswith("_token") and key not in _NAMED]
    late = {key: config.pop(key) for key in more if isinstance(config[key], str)}
    if isinstance(config.get(extra), dict):
        late |= config.pop(extra)
    if "added_tokens_decoder" not in config:
        for key, value in read_object(directory / _SPECIAL_MAP).items():
            tagged = isinstance(value, dict) and key != extra
            config[key] = value | {"special": True, "__type": ""} if tagged else value
    unnamed = config.get(extra) if extra in config else config.get(others)
    early = {
        key: value
        for key, value in config.items()
        if key.endswith("_token") and (isinstance(value, str) or _is_tagged(value))
    }
    named = {key: config[key] for key in _NAMED if config.get(key) is not None}
    flags = {token.content: token for token in declared.values()}
    tokens: dict[str, str | AddedToken] = {}
    for key, value in {**named, **early, **late}.items():
        token = value if isinstance(value, str) else _token(CONFIG, value)
        tokens[key] = flags.get(_text(token), token) if key in _NAMED else token
    rest = _list(unnamed)
    return tokens, [e if isinstance(e, str) else _token(CONFIG, e) for e in rest]


def _add(
    inner: tokenizers.Tokenizer,
    declared: Mapping[int, AddedToken],
    named: Mapping[str, str | AddedToken],
    extra: list[str | AddedToken],
) -> None:
    """Add what the vocabulary lacks, in the order of TokenizersBackend.__init__."""
    have = inner.get_added_tokens_decoder().values()
    known = {repr(token) for token in have}
    missing = [token for token in declared.values() if repr(token) not in known]
    texts = {token.content for token in (*have, *missing)}
    names = set(map(_text, named.values()))
    for token in (*named.values(), *extra):
        if _text(token) not in texts:
            texts.add(_text(token))
            missing.append(
                AddedToken(token, special=True) if isinstance(token, str) else token
            )
    for token in missing:
        token.special = token.special or token.content in names
    inner.add_tokens(missing)


def _token(file: str, entry: Any) -> AddedToken:
    """An added token from its JSON object; other keys ("__type") say nothing."""
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    try:
        given = {key: entry[key] for key in flags if key in entry}
        return AddedToken(entry["content"], **given)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file}: not an added token: {entry!r:.80}") from error


def _text(token: str | AddedToken | dict[str, Any]) -> str:
    if isinstance(token, dict):
        return str(token.get("content"))
    return token if isinstance(token, str) else token.content


def _is_tagged(value: Any) -> bool:
    return isinstance(value, dict) and "__type" in value


def _list(found: Any) -> list[Any]:
    return list(found) if isinstance(found, list) else []
