"""Markdown as the report has it -> one HTML page that stands alone.

Headings, paragraphs, `- ` lists, tables, fenced code, figures on a line of their own,
and in the text **bold**, `code`, [links](#within) the page and \\ before a mark that is
none. All else is shown as it is: there is no way to an address, a script or a tag.
"""

import base64
import html
import re
from collections.abc import Iterator
from pathlib import Path

from experiments.page import STYLE

_INLINE = re.compile(
    r"\\(?P<plain>[\\`*<|])|`(?P<code>[^`]+)`|\*\*(?P<bold>\S(?:.*?\S)?)\*\*"
    r"|\[(?P<link>[^\]]+)\]\(#(?P<to>[\w-]+)\)"
)
_FIGURE = re.compile(r"!\[(?P<caption>.*)\]\((?P<path>[^)]+)\)")
_NUMBER = r"[-+]?(\d[\d.,]*(e[-+]?\d+)?|inf)%?"
_NUMBERS = re.compile(rf"({_NUMBER}( \[{_NUMBER}, {_NUMBER}\])?)|none|")
_VERDICTS = {"agrees": "holds", "does not agree": "fails", "cannot tell": "undecided"}
_WIDER = """
body { max-width: 72rem; }
td { max-width: 26rem; overflow-wrap: break-word; }
td code { white-space: pre-wrap; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
"""


def page(title: str, text: str, directory: Path) -> str:
    """The page; figures are read from their paths below the directory."""
    body = "\n".join(_blocks(text, directory))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title><style>{STYLE}{_WIDER}</style></head>"
        f"<body>{body}</body></html>\n"
    )


def anchor(heading: str) -> str:
    """Where a link to a heading goes, on this page as on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _blocks(text: str, directory: Path) -> Iterator[str]:
    fences = re.split(r"^```\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    for place, part in enumerate(fences):
        if place % 2:
            yield f"<pre>{html.escape(part)}</pre>"
            continue
        for block in re.split(r"\n\s*\n", part.strip()):
            if block.strip():
                yield _block(block.strip(), directory)


def _block(block: str, directory: Path) -> str:
    lines = block.splitlines()
    if heading := re.fullmatch(r"(#+) (.*)", block):
        level, words = len(heading[1]), heading[2]
        return f'<h{level} id="{anchor(words)}">{_inline(words)}</h{level}>'
    if found := _FIGURE.fullmatch(block):
        return _figure(directory / found["path"], found["caption"])
    if block.startswith("|") and len(lines) > 1:
        return _table(lines)
    if block.startswith("- "):
        items = re.split(r"\n- ", block[2:])
        return f"<ul>{''.join(f'<li>{_inline(item)}</li>' for item in items)}</ul>"
    return f"<p>{_inline(block)}</p>"


def _table(lines: list[str]) -> str:
    head, _, *rows = [_cells(line) for line in lines]
    # A column of numbers is set as one, heading and all.
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(head)
    kinds = ["number" if all(map(_NUMBERS.fullmatch, c)) else "" for c in columns]

    def row(tag: str, cells: list[str]) -> str:
        found = [
            f'<{tag} class="{_VERDICTS.get(cell, kind)}">{_inline(cell)}</{tag}>'
            for cell, kind in zip(cells, kinds, strict=True)
        ]
        return f"<tr>{''.join(found)}</tr>"

    body = "".join(row("td", cells) for cells in rows)
    return (
        f'<div class="wide"><table><thead>{row("th", head)}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def _figure(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    alt = html.escape(re.sub(r"\\(.)", r"\1", caption))
    return (
        f'<figure><img alt="{alt}" src="data:image/png;base64,{data}">'
        f"<figcaption>{_inline(caption)}</figcaption></figure>"
    )


def _inline(text: str) -> str:
    """The text with its marks carried out and all else escaped."""
    parts, end = [], 0
    for found in _INLINE.finditer(text):
        parts.append(html.escape(text[end : found.start()]))
        end = found.end()
        if found["plain"]:
            parts.append(html.escape(found["plain"]))
        elif found["code"]:
            code = found["code"].replace("\\|", "|")
            parts.append(f"<code>{html.escape(code)}</code>")
        elif found["bold"]:
            parts.append(f"<strong>{_inline(found['bold'])}</strong>")
        else:
            parts.append(f'<a href="#{found["to"]}">{_inline(found["link"])}</a>')
    return "".join([*parts, html.escape(text[end:])])
