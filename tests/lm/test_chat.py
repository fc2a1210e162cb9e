"""Chat templates render what transformers renders, and cannot do anything else."""

import datetime
import json
import shutil
import time
from pathlib import Path

import pytest

from jsharp.lm import sandbox
from jsharp.lm.chat import Chat, ChatTemplate
from jsharp.lm.tokenizer import Tokenizer, character_tokenizer

FIXTURES = Path(__file__).parent / "fixtures" / "tokenizers"
STYLES = ("llama2", "mistral", "phi3", "qwen2", "llama3")
TORTURE = json.loads((FIXTURES / "torture.json").read_text("utf-8"))
USER = [{"role": "user", "content": "hi"}]


def load(folder: Path) -> Chat:
    return Chat.load(folder, Tokenizer.load(folder))


@pytest.fixture(params=STYLES)
def style(request):
    folder = FIXTURES / request.param
    return load(folder), json.loads((folder / "expected.json").read_text("utf-8"))


def test_conversations_are_those_of_apply_chat_template(style):
    chat, expected = style
    compared = 0
    for case, both in zip(TORTURE["chats"], expected["chats"], strict=True):
        for generation, want in zip((False, True), both, strict=True):
            given = case.get("variables", {}) | {"tools": case.get("tools")}
            render = lambda f, c=case, g=generation, v=given: f(
                c["messages"], generation=g, **v
            )
            if "error" in want:
                with pytest.raises(ValueError) as caught:
                    render(chat.render)
                assert str(caught.value).endswith(want["error"])
                continue
            compared += 1
            assert render(chat.render) == want["text"]
            assert render(chat.encode) == want["ids"]
    assert compared >= 2 * 8


def test_there_is_one_begin_token():
    chat = load(FIXTURES / "llama3")
    begin = chat.tokenizer.special_id("bos_token")
    assert chat.encode(USER).count(begin) == 1
    assert chat.tokenizer.encode(chat.render(USER), special=True).count(begin) == 2


def test_a_file_of_its_own_comes_before_the_config(tmp_path):
    shutil.copytree(FIXTURES / "mistral", tmp_path / "m")
    (tmp_path / "m" / "chat_template.jinja").write_text("own {{ messages[0].content }}")
    assert load(tmp_path / "m").render(USER) == "own hi"
    others = tmp_path / "m" / "additional_chat_templates"
    others.mkdir()
    (others / "tool_use.jinja").write_text("tools {{ tools | length }}")
    assert load(tmp_path / "m").render(USER, tools=[{}, {}]) == "tools 2"


def test_without_a_template_messages_are_refused():
    chat = Chat(character_tokenizer("hi"), {})
    with pytest.raises(
        ValueError, match="no chat template: expected chat_template.jin"
    ):
        chat.render(USER)
    with pytest.raises(ValueError, match="at least one message"):
        chat.render([])


@pytest.mark.parametrize(
    "found", [3, {"name": "default"}, [{"name": "default"}], [["default", "x"]]]
)
def test_a_template_of_another_type_is_named(tmp_path, found):
    shutil.copytree(FIXTURES / "llama3", tmp_path / "m")
    path = tmp_path / "m" / "tokenizer_config.json"
    path.write_text(json.dumps({"chat_template": found}))
    with pytest.raises(ValueError, match="tokenizer_config.json: chat_template: expe"):
        load(tmp_path / "m")


def render(source: str, **variables) -> str:
    return ChatTemplate(source, file="bad.jinja").render(variables)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ {'b': '<é>', 'a': 1} | tojson }}", '{"b": "<é>", "a": 1}'),
        ("{{ [1] | tojson(indent=1) }}", "[\n 1\n]"),
        ("{{ strftime_now('%Y') }}", str(datetime.date.today().year)),
        ("{{ 'a' ~ 1 ~ none ~ missing }}", "a1None"),
        ("{{ '%s-%02d %5s' % ('a', 3, 'b') }}", "a-03     b"),
        ("{{ '%s * %s' | format('1234567890', 98765432) }}", "1234567890 * 98765432"),
        ("{{ '{}{:>3}'.format('a', 2000000000) }}", "a2000000000"),
        ("{{ ['a', 'b'] | join(', ') }} {{ 'x'.join(['a', 'b']) }}", "a, b axb"),
        ("{% for i in range(9) if i != 1 %}{{ i }}{% if i > 2 %}{% break %}{% endif %}"
         "{% endfor %}", "023"),
        ("{% for a in [1, 2] %}{{ loop.index0 ~ loop.last }}{% else %}no{% endfor %}",
         "0False1True"),
        ("{% set n = namespace(a=1) %}{% for i in [1, 2] %}{% set n.a = n.a + i %}"
         "{% endfor %}{{ n.a }} {{ dict(x=1).x }} {{ dict.fromkeys(['y']) }}",
         "4 1 {'y': None}"),
        ("{% macro m(a) %}<{{ a }}{{ caller() }}>{% endmacro %}"
         "{% call m(1) %}in{% endcall %}", "<1in>"),
        ("{% generation %}{% set a = 1 %}x{% endgeneration %}{{ a }}", "x"),
        ("  {% if true %}\n  a\n  {% endif %}\nb", "  a\nb"),
        ("{{ messages | map(attribute='role') | list }}", "['user']"),
        ("{{ (2 ** 10) * 3 % 7 }} {{ 7.5 * 2 }} {{ [1] + [2] }} {{ 'ab' * 2 }}",
         "6 15.0 [1, 2] abab"),
    ],
)  # fmt: skip
def test_the_language_of_templates(source, text):
    """Worked out by hand; transformers 5.23 renders each of them to the same text."""
    assert render(source, messages=USER) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ '' | attr('__class__') }}",
        "{{ [''] | map(attribute='__class__') | list }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{{ self.__init__ }}",
        "{{ '{0.__class__}'.format('') }}",
        "{{ ''.__doc__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{{ namespace(__class__=1) }}",
        "{% set n = namespace() %}{% set n._x = 1 %}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__code__ }}",
    ],
)
def test_no_escape(source):
    with pytest.raises(ValueError, match="bad.jinja, line 1: SecurityError"):
        render(source, messages=[dict(m) for m in USER])


LOOP = "{% for i in range(60) %}STEP{% endfor %}{{ n.s }}"
GROW = "{% set n = namespace(s=START) %}" + LOOP


def grow(start: str, step: str) -> str:
    return GROW.replace("START", start).replace("STEP", step)


BOMBS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% set x = range(99999) | list %}"
    "{% for a in x %}{% for b in x if false %}{% endfor %}{% endfor %}",
    "{% set x = range(99999) | list %}{% for a in x %}{{ -1 in x }}{% endfor %}",
    "{% set x = range(99999) | list %}"
    "{% for a in x %}{{ x | select('string') | list | length }}{% endfor %}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(60) }}",
    "{% for a in range(10 ** 9) %}{% endfor %}",
    "{{ 'a' * 10 ** 10 }}",
    "{{ ['a'] * 10 ** 10 }}",
    "{{ 'a' | center(10 ** 10) }}",
    "{{ 'a'.ljust(10 ** 10) }}",
    "{{ '1'.zfill(10 ** 10) }}",
    "{{ '%9999999999d' % 1 }}",
    "{{ '%*d' % (10 ** 10, 1) }}",
    "{{ '%9999999999d' | format(1) }}",
    "{{ '{:>9999999999}'.format(1) }}",
    "{{ '{:>{w}}'.format(1, w=10 ** 10) }}",
    "{{ ('a' * 99999) | replace('a', 'b' * 99999) }}",
    "{{ ('a' * 99999).replace('a', 'b' * 99999) }}",
    "{{ (['a'] * 99999) | join('b' * 99999) }}",
    "{{ ('a\\n' * 9999) | indent(10 ** 9) }}",
    "{{ 9 ** (9 ** 9) }}",
    grow("'x'", "{% set n.s = n.s ~ n.s %}"),
    grow("'x'", "{% set n.s = n.s + n.s %}"),
    grow("'x'", "{% set n.s = [n.s, n.s] | join %}"),
    grow("'x'", "{% set n.s = '%s%s' % (n.s, n.s) %}"),
    grow("'x'", "{% set n.s %}{{ n.s }}{{ n.s }}{% endset %}"),
    grow("['x']", "{% set n.s = n.s + n.s %}"),
    grow("['x']", "{% set n.s = [n.s, n.s] %}"),
    grow("['x']", "{% set n.s = {1: n.s, 2: n.s} %}").replace("s }}", "s|tojson }}"),
    grow("9", "{% set n.s = n.s * n.s %}"),
]  # fmt: skip


@pytest.mark.parametrize("source", BOMBS)
def test_no_endless_work(source, monkeypatch):
    """Each would run for hours or fill the memory; here in a moment."""
    monkeypatch.setattr(sandbox, "STEPS", 3000)
    monkeypatch.setattr(sandbox, "SECONDS", 0.3)
    monkeypatch.setattr(sandbox, "LARGEST", 10**5)
    monkeypatch.setattr(sandbox, "_PRODUCT", 10**6)
    started = time.thread_time()
    message = "bad.jinja, line 1: (WorkError: too much|Recursion|OverflowError: Range)"
    with pytest.raises(ValueError, match=message):
        render(source)
    assert time.thread_time() - started < 3


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% for a in range(4000) %}{% endfor %}", "steps"),
        ("{% for a in range(4000) if false %}{% endfor %}", "steps"),
        (grow("'x'", "{% set n.s = n.s + n.s %}").replace("60", "20"), "longer"),
        (grow("'x'", "{% set n.s = n.s ~ n.s %}").replace("60", "20"), "longer"),
        ("{% set s %}" + 20 * ("{{ 'x' * 9999 }}") + "{% endset %}", "longer"),
    ],
)
def test_the_count_stops_it_before_the_clock_does(source, message, monkeypatch):
    monkeypatch.setattr(sandbox, "STEPS", 3000)
    monkeypatch.setattr(sandbox, "SECONDS", 1e9)
    monkeypatch.setattr(sandbox, "LARGEST", 10**5)
    with pytest.raises(ValueError, match=f"WorkError: too much work: .*{message}"):
        render(source.replace("{{ n.s }}", ""))


def test_a_long_conversation_is_not_endless_work():
    chat = load(FIXTURES / "qwen2")
    turns = [
        {"role": "user", "content": "x" * 1000},
        {"role": "assistant", "content": "y"},
    ]
    text = chat.render(turns * 500 + USER)
    assert text.count("<|im_start|>") == 1002


def test_each_rendering_has_a_budget_of_its_own(monkeypatch):
    monkeypatch.setattr(sandbox, "STEPS", 100)
    template = ChatTemplate("{% for i in range(60) %}{% endfor %}", file="t.jinja")
    for _ in range(5):
        template.render({})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ 1\n}}{% for %}", "bad.jinja, line 2: not a template"),
        ("{{ x | unheard_of }}", "bad.jinja, line 1: not a template: No filter"),
        ("{{ " + "(" * 5000, "bad.jinja: not a template: maximum recursion"),
        ("a\n\n{{ messages.x.y }}", "bad.jinja, line 3: UndefinedError"),
        ("a\n{{ raise_exception('alternate!') }}", "bad.jinja, line 2: alternate!"),
        ("a\n{{ 1 / 0 }}", "bad.jinja, line 2: ZeroDivisionError"),
    ],
)
def test_errors_name_the_file_and_the_line(source, message):
    with pytest.raises(ValueError, match=message):
        render(source, messages=USER)


def test_a_template_sees_plain_data_only():
    chat = load(FIXTURES / "phi3")
    given = [{"role": "user", "content": Path("x")}]
    with pytest.raises(ValueError, match="messages in JSON: .*Path"):
        chat.render(given)
