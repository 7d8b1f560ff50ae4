"""What sections share: tables with a column for each corpus, bars with their table, examples."""

from collections.abc import Callable, Sequence
from typing import Any

from data_pipeline.report.page import charts
from data_pipeline.report.page.elements import details, escaped, number, quoted, quotes, table
from data_pipeline.report.tally import percent, share

Corpora = Sequence[dict[str, Any]]  # the numbers of one corpus, or of two to compare
_MOST_IN_A_COLUMN = 11


def facts(caption: str, corpora: Corpora, rows: Sequence[tuple[str, Callable[[dict[str, Any]], str]]]) -> str:
    """Returns a table with a row for each (name, function of a corpus's numbers that gives HTML)."""
    head = ["", *(corpus["name"] for corpus in corpora)] if len(corpora) > 1 else []
    return table(caption, head, ([escaped(name), *map(value, corpora)] for name, value in rows))


def legend(corpora: Corpora) -> str:
    """Returns the colours of two corpora; nothing for one."""
    if len(corpora) < 2:
        return ""
    items = "".join(f'<li class="key{i}">{escaped(corpus["name"])}</li>' for i, corpus in enumerate(corpora))
    return f'<ul class="legend">{items}</ul>'


def bar_figure(
    title: str, corpora: Corpora, listed: Callable[[dict[str, Any]], list], whole: Callable[[dict], int]
) -> str:
    """Returns bars of names, with a table of the same numbers.

    Args:
      title: what the bars show.
      corpora: the numbers.
      listed: of the numbers of a corpus, its list of {"name", "rows"}.
      whole: of the numbers of a corpus, what the shares are of.
    """
    counts = [{entry["name"]: entry["rows"] for entry in listed(corpus)} for corpus in corpora]
    names = list(dict.fromkeys(name for count in counts for name in count))
    wholes = [whole(corpus) for corpus in corpora]
    items = []
    for name in names:
        values = [count.get(name, 0) for count in counts]
        items.append(charts.Bar(name, [share(n, of) for n, of in zip(values, wholes, strict=True)], values))
    if not items:
        return ""
    return _figure(title, _in_columns(title, items), corpora) + bar_table(title, items, corpora)


def _in_columns(title: str, items: Sequence[charts.Bar]) -> str:
    """Returns bars, many of them in two columns with one scale."""
    longest = max(share for item in items for share in item.shares) or 1
    if len(items) <= _MOST_IN_A_COLUMN:
        return charts.bars(title, items, longest)
    half = (len(items) + 1) // 2
    parts = ((f"{title}, first half", items[:half]), (f"{title}, second half", items[half:]))
    return f'<div class="pair">{"".join(f"<div>{charts.bars(*part, longest)}</div>" for part in parts)}</div>'


def bar_table(title: str, items: Sequence[charts.Bar], corpora: Corpora) -> str:
    """Returns the numbers of bars or columns as a table that is folded away."""
    names = [corpus["name"] for corpus in corpora] if len(corpora) > 1 else ["number"]
    head = ["", *(part for name in names for part in (name, "share"))]
    rows = (
        [escaped(item.label)]
        + [cell for n, of in zip(item.counts, item.shares, strict=True) for cell in (number(n), percent(of))]
        for item in items
    )
    return details("As a table", table(title, head, rows))


def _figure(title: str, svg: str, corpora: Corpora) -> str:
    return f"<figure><figcaption>{escaped(title)}</figcaption>{legend(corpora)}{svg}</figure>"


def column_figure(title: str, items: Sequence[charts.Bar], corpora: Corpora, limit: float | None = None) -> str:
    """Returns columns, one for each item, with a table of the same numbers; `limit` is in columns from the left."""
    shares = [[item.shares[place] for item in items] for place in range(len(corpora))]
    svg = charts.columns(title, [item.label for item in items], shares, limit)
    return _figure(title, svg, corpora) + bar_table(title, items, corpora)


def example_list(summary: str, examples: Sequence[dict[str, Any]]) -> str:
    """Returns {"text", "where"} as quotes that are folded away."""
    shown = [(quoted(example["text"] or "(only its place is known)"), example["where"]) for example in examples]
    return details(summary, quotes(shown))


def for_each(corpora: Corpora, content: Callable[[dict[str, Any]], str]) -> str:
    """Returns the content of each corpus, with its name above if there are two."""
    parts = [(corpus["name"], content(corpus)) for corpus in corpora]
    named = len(corpora) > 1
    return "".join(f"<h3>{escaped(name)}</h3>{text}" if named else text for name, text in parts if text)
