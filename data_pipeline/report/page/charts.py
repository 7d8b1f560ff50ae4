"""Charts as SVG that grow in width but keep the size of their letters, so that a phone shows them, too.

Places along x are in percent, along y in pixels. Colours come from the classes of page.css. A chart has a title, and
the page puts its numbers into a table beside it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from data_pipeline.report.page.elements import escaped, number
from data_pipeline.report.tally import percent

_LINE, _BAR, _BAR_GAP, _GAP = 20, 10, 6, 12  # pixels
_ROOM_BESIDE_VALUES = 58  # percent
_PLOT, _BELOW, _ABOVE = 150, 24, 18
_LONGEST_LABEL = 34  # characters


class Bar(NamedTuple):
    """A value of each corpus.

    Attributes:
      label: what it is of.
      shares: 0 to 1, for each corpus: the length of the bar.
      counts: what is written beside it.
    """

    label: str
    shares: Sequence[float]
    counts: Sequence[int]


def bars(title: str, items: Sequence[Bar], longest: float) -> str:
    """Returns horizontal bars, each with its label above; several corpora have bars of their own.

    Args:
      title: what they show.
      items: the bars, from the top.
      longest: the share of a bar as wide as the chart.
    """
    parts, y = [], 0
    for item in items:
        label = item.label if len(item.label) <= _LONGEST_LABEL else f"{item.label[:_LONGEST_LABEL]}…"
        parts.append(f'<text x="0" y="{y + 14}">{escaped(label)}</text>')
        if len(item.shares) == 1:
            parts.append(_value(item, 0, y + 14))
        y += _LINE
        for place, share in enumerate(item.shares):
            room = 100 if len(item.shares) == 1 else _ROOM_BESIDE_VALUES
            parts.append(f'<rect x="0" y="{y}" width="{room}%" height="{_BAR}" rx="3" class="track"/>')
            if share:
                width = room * share / longest
                parts.append(f'<rect x="0" y="{y}" width="{width:.2f}%" height="{_BAR}" rx="3" class="bar{place}"/>')
            if len(item.shares) > 1:
                parts.append(_value(item, place, y + _BAR))
                y += _BAR_GAP
            y += _BAR
        y += _GAP
    return _svg(title, max(y - _GAP, 1), "".join(parts))


def _value(item: Bar, place: int, y: int) -> str:
    text = f"{number(item.counts[place])} · {percent(item.shares[place])}" if item.counts[place] else "0"
    return f'<text x="100%" y="{y}" class="value">{escaped(text)}</text>'


def columns(title: str, labels: Sequence[str], shares: Sequence[Sequence[float]], limit: float | None = None) -> str:
    """Returns a histogram.

    Args:
      title: what it shows.
      labels: of N bins, the upper bound of each.
      shares: [C][N], the share of the texts in each bin, of C corpora.
      limit: where to draw a line, in bins from the left.
    """
    slot, num_corpora = 100 / max(1, len(labels)), len(shares)
    highest = max((share for row in shares for share in row), default=0) or 1
    width = 0.84 * slot / max(1, num_corpora)
    parts = [f'<line x1="0" x2="100%" y1="{_ABOVE + _PLOT}" y2="{_ABOVE + _PLOT}" class="axis"/>']
    for place, row in enumerate(shares):
        for i, share in enumerate(row):
            height, x = _PLOT * share / highest, i * slot + 0.08 * slot + place * width
            if share:
                height = max(height, 1.5)  # rare lengths must not vanish
                y = _ABOVE + _PLOT - height
                parts.append(
                    f'<rect x="{x:.2f}%" y="{y:.1f}" width="{width:.2f}%" height="{height:.1f}" class="bar{place}">'
                    f"<title>{escaped(f'up to {labels[i]}: {percent(share)}')}</title></rect>"
                )
            if share == highest:
                middle = x + width / 2
                parts.append(
                    f'<text x="{middle:.2f}%" y="{_ABOVE - 5}" class="middle">{escaped(percent(share))}</text>'
                )
    for i, label in enumerate(labels):
        parts.append(
            f'<text x="{(i + 0.5) * slot:.2f}%" y="{_ABOVE + _PLOT + 17}" class="middle tick">{escaped(label)}</text>'
        )
    if limit is not None and limit < len(labels):
        x = limit * slot
        parts.append(f'<line x1="{x:.2f}%" x2="{x:.2f}%" y1="{_ABOVE}" y2="{_ABOVE + _PLOT}" class="limit"/>')
    return _svg(title, _ABOVE + _PLOT + _BELOW, "".join(parts))


def _svg(title: str, height: int, content: str) -> str:
    return (
        f'<svg role="img" aria-label="{escaped(title)}" width="100%" height="{height}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escaped(title)}</title>{content}</svg>'
    )
