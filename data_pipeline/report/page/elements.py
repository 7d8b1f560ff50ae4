"""Small pieces of HTML. Every text is escaped here, and nowhere else."""

import html
import re
from collections.abc import Iterable, Sequence

_JOINT = re.compile(r"([_.-])")
_MARK = re.compile(r"\[(?:email|card|id|phone|ip|name)\]")  # of masked personal data


def escaped(text: object) -> str:
    """Returns a text as HTML."""
    return html.escape(str(text))


def quoted(text: str) -> str:
    """Returns a text of the corpus as HTML, with masked personal data in <mark>; browsers find its direction."""
    return f'<span class="quote" dir="auto">{_MARK.sub(lambda match: f"<mark>{match[0]}</mark>", escaped(text))}</span>'


def number(value: float | None) -> str:
    """Returns a number for readers; an en dash for none."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"


def paragraph(text: str, kind: str = "") -> str:
    """Returns a paragraph of plain text."""
    return f'<p class="{kind}">{escaped(text)}</p>' if kind else f"<p>{escaped(text)}</p>"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table whose first column names the rows; cells are HTML, the head is text."""
    breakable = (_JOINT.sub(r"\1<wbr>", escaped(name)) for name in head)  # names of files are long
    headings = "".join(f'<th scope="col">{name}</th>' for name in breakable)
    headings = f"<thead><tr>{headings}</tr></thead>" if any(head) else ""
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for first, *cells in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escaped(caption)}"><table>'
        f"<caption>{escaped(caption)}</caption>{headings}<tbody>{body}</tbody></table></div>"
    )


def details(summary: str, content: str) -> str:
    """Returns content that is folded away; no content, no element."""
    return f"<details><summary>{escaped(summary)}</summary>{content}</details>" if content else ""


def quotes(examples: Iterable[tuple[str, str]]) -> str:
    """Returns a list of (HTML, place in the corpus)."""
    items = "".join(f"<li>{text}<small>{escaped(where)}</small></li>" for text, where in examples)
    return f'<ul class="quotes">{items}</ul>' if items else ""


def tiles(values: Iterable[tuple[str, str]]) -> str:
    """Returns (name, value as HTML) as a list of large numbers."""
    items = "".join(f"<div><dt>{escaped(name)}</dt><dd>{value}</dd></div>" for name, value in values)
    return f'<dl class="tiles">{items}</dl>'
