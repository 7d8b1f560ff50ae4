"""Documents as passages, cut at headings, pages and paragraphs."""

import io
import zipfile

import pytest

from data_pipeline.corpora import Columns, Refusals, documents
from data_pipeline.corpora.passages import read_passages
from data_pipeline.corpora.paths import find_inputs
from data_pipeline.prepare.__main__ import _READERS
from tests.test_formats import written

MARKDOWN = """# Cough
A reflex.

## Treatment ##
Honey
eases it.

```
# no heading
```

### In babies
No honey.

## Causes
Colds.
"""
PARAGRAPH = "Coughing clears the airways of mucus, dust and smoke, and lasts up to three weeks after a cold. "
PAGE = f"""<!DOCTYPE html><html><head><title>Dry cough</title></head><body><nav><a href="/">Home</a></nav>
<main><article><h1>Dry cough</h1><p>{PARAGRAPH * 3}</p><h2>Treatment</h2><p>Honey. {PARAGRAPH * 3}</p></article></main>
<footer>Imprint</footer></body></html>"""
WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
STYLES = f"""<?xml version="1.0"?><w:styles {WORD}>
<w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>
<w:style w:styleId="Titel"><w:name w:val="Title"/></w:style></w:styles>"""
BODY = f"""<?xml version="1.0"?><w:document {WORD}><w:body>
<w:p><w:pPr><w:pStyle w:val="Titel"/></w:pPr><w:r><w:t>Dry cough</w:t></w:r></w:p>
<w:p><w:r><w:t>A reflex</w:t></w:r><w:r><w:tab/><w:t xml:space="preserve"> &amp; more.</w:t></w:r></w:p>
<w:p><w:pPr><w:pStyle w:val="berschrift1"/></w:pPr><w:r><w:t>Treatment</w:t></w:r></w:p>
<w:p><w:r><w:br w:type="page"/><w:t>Honey.</w:t></w:r></w:p><w:p/></w:body></w:document>"""


def docx(body=BODY):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("word/document.xml", body)
        archive.writestr("word/styles.xml", STYLES)
    return file.getvalue()


def pdf(*pages, title="Dry cough"):
    """Returns a PDF with a text on each page."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 50 700 Td ({text}) Tj ET"
        box = "/MediaBox [0 0 600 800] /Resources << /Font << /F1 3 0 R >> >>"
        objects.append(f"<< /Type /Page /Parent 2 0 R {box} /Contents {5 + 2 * number} 0 R >>")
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    objects.append(f"<< /Title ({title}) >>")
    content, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(content))
        content += f"{number} 0 obj\n{each}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    trailer = f"<< /Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R >>"
    start = f"startxref\n{len(content)}\n%%EOF\n"
    return content + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n{trailer}\n{start}".encode()


def read(path, columns=Columns()):
    refusals = Refusals()
    return [row for _, row in read_passages(str(path), columns, refusals)], dict(refusals.counts)


def parts(rows):
    return [(row.title, row.section, row.page, row.text) for row in rows]


def test_markdown_is_cut_at_headings(tmp_path):
    rows, _ = read(written(tmp_path / "a.md", MARKDOWN))
    assert parts(rows) == [
        ("Cough", "", "", "A reflex."),
        ("Cough", "Treatment", "", "Honey\neases it.\n\n```\n# no heading\n```"),
        ("Cough", "Treatment > In babies", "", "No honey."),
        ("Cough", "Causes", "", "Colds."),
    ]
    assert {row.source for row in rows} == {"a.md"}


def test_long_sections_are_cut_between_paragraphs(tmp_path):
    text = "\n\n".join(f"{letter} " * 200 for letter in "abcde")  # 400 characters each, at most 1,000 together
    rows, _ = read(written(tmp_path / "a.txt", text))
    assert [row.text[0] + row.text[-1] for row in rows] == ["ab", "cd", "ee"]
    assert rows[0].title == ""


def test_headings_of_the_first_level_are_titles(tmp_path):
    rows, _ = read(written(tmp_path / "a.md", "Before.\n# Asthma\n## Cause\nDust.\n# Fever\nHeat.\n"))
    assert parts(rows) == [("", "", "", "Before."), ("Asthma", "Cause", "", "Dust."), ("Fever", "", "", "Heat.")]


def test_pages_of_the_web_without_their_menus(tmp_path):
    rows, _ = read(written(tmp_path / "a.html", PAGE))
    assert [(row.title, row.section) for row in rows] == [("Dry cough", ""), ("Dry cough", "Treatment")]
    assert rows[1].text.startswith("Honey. Coughing clears")
    assert not any("Imprint" in row.text or "Home" in row.text for row in rows)


def test_pdf_by_pages(tmp_path):
    rows, _ = read(written(tmp_path / "a.pdf", pdf("A reflex.", "", "Honey eases it.")))
    assert parts(rows) == [("Dry cough", "", "1", "A reflex."), ("Dry cough", "", "3", "Honey eases it.")]
    assert read(written(tmp_path / "b.pdf", pdf("")))[1] == {documents.NO_TEXT: 1}
    with pytest.raises(ValueError, match=f"{tmp_path}/c.pdf is a damaged PDF"):
        read(written(tmp_path / "c.pdf", b"%PDF-1.4\nno more"))


def test_word_documents(tmp_path):
    rows, _ = read(written(tmp_path / "a.docx", docx()))
    assert parts(rows) == [("Dry cough", "", "1", "A reflex\t & more."), ("Dry cough", "Treatment", "2", "Honey.")]
    with pytest.raises(ValueError, match=f"{tmp_path}/b.docx line 1 is not valid XML"):
        read(written(tmp_path / "b.docx", docx("<w:document>")))
    with pytest.raises(ValueError, match="declares the entity 'a'"):
        read(written(tmp_path / "b.docx", docx('<!DOCTYPE d [<!ENTITY a "b">]><d>&a;</d>')))


def test_a_folder_of_documents(tmp_path):
    for name, content in (("a.md", MARKDOWN), ("b.pdf", pdf("x")), ("c/d.docx", docx()), ("style.css", "")):
        written(tmp_path / "in" / name, content)
    inputs = find_inputs([str(tmp_path / "in")], Columns(), Refusals(), _READERS["passages"])
    assert inputs == (str(tmp_path / "in"),)
    rows, _ = read(tmp_path / "in")
    assert [row.source for row in rows] == ["a.md"] * 4 + ["b.pdf"] + ["d.docx"] * 2


def test_tables_of_texts(tmp_path):
    rows, refused = read(written(tmp_path / "a.csv", "title,text\nCough,A reflex.\nCold,\n"))
    assert (parts(rows), sum(refused.values())) == ([("Cough", "", "", "A reflex.")], 1)
    rows, _ = read(written(tmp_path / "a.txt", "id,words\n1,A reflex.\n"), Columns(question="words"))
    assert [row.text for row in rows] == ["A reflex."]
