"""Tables of the results page, and its Markdown as HTML."""

from pathlib import Path

import pytest
from read_page import Page

from experiments.reproduce import markup, tables


@pytest.mark.parametrize(
    ("value", "scale", "expected"),
    [
        ([0.123, 0.1, 0.2], 100, "12.3 [10.0, 20.0]"),
        ([0.99999, 0.9, 1.0], 100, "100.0 [90.0, 100.0]"),
        ([-0.0001, -0.5, None], 100, "0.0 [-50.0, inf]"),
        ([-1.2345, -2, 0], 1, "-1.23 [-2, 0]"),
        ([12345.6, 999.4, 1e7], 1, "12346 [999, 1e+07]"),
        (None, 1, "none"),
    ],
)
def test_intervals(value, scale, expected):
    assert tables.interval(value, scale) == expected


def test_a_table_keeps_its_columns():
    rows = [{"a|b": 1, "c": None}, {"a|b": "x|y\\|z\nw", "c": ([1, 2, 3], 1)}]
    assert tables.markdown(rows).splitlines() == [
        "| a\\|b | c |",
        "|---|---|",
        "| 1 |  |",
        "| x\\|y\\|z w | 1 [2, 3] |",
    ]
    assert tables.markdown([]) == ""


def test_rows_of_other_columns_are_refused():
    for row in ({"a": 1}, {"b": 1, "a": 1}, {"a": 1, "b": 2, "c": 3}):
        with pytest.raises(ValueError, match="expected the columns"):
            tables.markdown([{"a": 1, "b": 2}, row])


PLAIN = [
    "Y*(x) and y*",
    "pi(y|x) < 1",
    "a `b` c",
    "back\\slash \\*",
    "**no**",
    "x & <i>",
    "a \\| b",
]


@pytest.mark.parametrize("words", PLAIN)
def test_plain_text_is_shown_as_it_is(words, tmp_path):
    shown = Page(markup.page("t", tables.plain(words), tmp_path)).text
    assert shown.rstrip().endswith(words)
    table = tables.markdown([{"column": tables.plain(words)}])
    found = Page(markup.page("t", table, tmp_path)).rows
    assert found[1] == [("", words)]


def test_a_backslash_before_a_bar_stays_one_on_github_too():
    # There a table's \\| is a bar before any other mark is read.
    assert tables.plain(r"a\|b") == r"a\\\|b"


def test_markup():
    inline = lambda text: list(markup._blocks(text, Path()))  # no figure
    assert inline("a **b `c|d`** [e](#f-g)") == [
        '<p>a <strong>b <code>c|d</code></strong> <a href="#f-g">e</a></p>'
    ]
    assert inline("1 < 2 & `x` <script> & 3") == [
        "<p>1 &lt; 2 &amp; <code>x</code> &lt;script&gt; &amp; 3</p>"
    ]
    assert inline("[a](http://b) 2 ** 3 ** 4") == ["<p>[a](http://b) 2 ** 3 ** 4</p>"]
    assert inline("- a\n  b\n- **c**") == [
        "<ul><li>a\n  b</li><li><strong>c</strong></li></ul>"
    ]
    assert inline("one\n\n```\n| <a>\n\n# b\n```\n\ntwo") == [
        "<p>one</p>",
        "<pre>| &lt;a&gt;\n\n# b\n</pre>",
        "<p>two</p>",
    ]
    assert inline("## fig3: A, b (c)") == ['<h2 id="fig3-a-b-c">fig3: A, b (c)</h2>']


def test_columns_of_numbers_are_set_as_numbers(tmp_path):
    rows = [
        {"a": "1 [0, inf]", "b": "none", "c": "x1", "d": "-3.5"},
        {"a": "2", "b": "-1e-05", "c": "2", "d": "12%"},
    ]
    found = Page(markup.page("t", tables.markdown(rows), tmp_path)).rows
    assert [kind for kind, _ in found[1]] == ["number", "number", "", "number"]
