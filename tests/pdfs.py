"""Writes PDFs for tests: lines of a size at a place, in Helvetica."""

from typing import NamedTuple

WIDTH, HEIGHT, MARGIN = 600, 800, 50


class Line(NamedTuple):
    """A line of a page.

    Attributes:
      text: Its text, of letters that Latin-1 has.
      size: Of the letters, in points.
      is_bold: Whether they are bold.
      above: Room above it, in points, beside that of the line itself.
      left: Room before it, in points, beside the margin.
    """

    text: str
    size: float = 12
    is_bold: bool = False
    above: float = 0
    left: float = 0


def typeset(pages: list[list[Line]], title: str = "") -> bytes:
    """Returns a PDF; the lines of a page stand below each other."""
    kids = " ".join(f"{5 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold >>",
    ]
    for number, lines in enumerate(pages):
        stream = _stream(lines)
        box = f"/MediaBox [0 0 {WIDTH} {HEIGHT}] /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >>"
        objects.append(f"<< /Type /Page /Parent 2 0 R {box} /Contents {6 + 2 * number} 0 R >>")
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    objects.append(f"<< /Title ({title}) >>")
    content, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(content))
        content += f"{number} 0 obj\n{each}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    trailer = f"<< /Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R >>"
    start = f"startxref\n{len(content)}\n%%EOF\n"
    return content + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n{trailer}\n{start}".encode()


def _stream(lines: list[Line]) -> str:
    parts, place = [], HEIGHT - MARGIN
    for text, size, is_bold, above, left in lines:
        place -= above + 1.2 * size
        text = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        parts.append(f"BT /F{1 + is_bold} {size} Tf 1 0 0 1 {MARGIN + left} {place:.1f} Tm ({text}) Tj ET")
    return "\n".join(parts)


def paragraph(text: str, num_characters: int = 80, above: float = 8) -> list[Line]:
    """Returns the lines of a paragraph, broken between words."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > num_characters:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [Line(line, above=above if not number else 0) for number, line in enumerate(lines)]
