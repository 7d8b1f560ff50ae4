"""Documents as passages, cut at headings, pages and paragraphs."""

import io
import zipfile

import pytest

from data_pipeline.corpora import Columns, Refusals, documents
from data_pipeline.corpora.passages import read_passages
from data_pipeline.corpora.paths import find_inputs
from data_pipeline.prepare.__main__ import _READERS
from tests.pdfs import Line, paragraph, typeset
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
    """Returns a PDF with a line on each page."""
    return typeset([[Line(text)] for text in pages], title)


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


def test_what_introduces_a_list_stands_in_its_passage(tmp_path):
    sentence = f"It is {'x' * 390}."  # 400 characters: two fit into a passage, three do not
    for line, expected in (("Signs are:", [2, 2]), ("Rare signs", [2, 2]), ("A whole sentence.", [3, 1])):
        rows, _ = read(written(tmp_path / "a.txt", "\n\n".join([sentence, sentence, line, sentence])))
        assert [row.text.count("\n\n") + 1 for row in rows] == expected, line
        assert (line in rows[1].text) == (expected == [2, 2])
    pages = [[*paragraph(PARAGRAPH * 2), *paragraph("Signs are:")], [Line("- fever.")]]
    rows, _ = read(written(tmp_path / "a.pdf", typeset(pages)))
    assert [(row.page, row.text[-20:]) for row in rows] == [("1", PARAGRAPH[-21:-1]), ("2", "Signs are:\n\n- fever.")]


def test_a_short_paragraph_is_no_passage_beside_a_long_one(tmp_path):
    long = " ".join(f"It has {letter * 90} there." for letter in "abcdefghij")  # ten sentences of 104 characters
    rows, _ = read(written(tmp_path / "a.txt", f"It is short.\n\n{long}"))
    assert [row.text[:12] for row in rows] == ["It is short.", "It has jjjjj"]
    assert all(len(row.text) <= 1_000 for row in rows)


def test_headings_of_the_first_level_are_titles(tmp_path):
    rows, _ = read(written(tmp_path / "a.md", "Before.\n# Asthma\n## Cause\nDust.\n# Fever\nHeat.\n"))
    assert parts(rows) == [("", "", "", "Before."), ("Asthma", "Cause", "", "Dust."), ("Fever", "", "", "Heat.")]


def test_pages_of_the_web_without_their_menus(tmp_path):
    rows, _ = read(written(tmp_path / "a.html", PAGE))
    assert [(row.title, row.section) for row in rows] == [("Dry cough", ""), ("Dry cough", "Treatment")]
    assert rows[1].text.startswith("Honey. Coughing clears")
    assert not any("Imprint" in row.text or "Home" in row.text for row in rows)


CLUB = """<html><head><title>Garden club</title></head><body>{}<h1>Rules</h1><p>Dues are <b>paid</b> in March.</p>
<h2>Meetings</h2><p>We meet on Mondays.</p><ul><li>bring tea<li>bring cake</ul></body></html>"""
MENU = "<nav><ul><li><a href='/'>Home</a><li><a href='/rules'>Meetings</a></ul></nav><aside><h2>News</h2>Old.</aside>"


@pytest.mark.parametrize("before", ["", MENU, f"{MENU}<main>"])
def test_short_pages_keep_their_headings(tmp_path, before):
    rows, _ = read(written(tmp_path / "a.html", CLUB.format(before)))
    assert parts(rows) == [
        ("Garden club", "Rules", "", "Dues are **paid** in March."),
        ("Garden club", "Rules > Meetings", "", "We meet on Mondays.\n\n- bring tea\n- bring cake"),
    ]


def test_pages_without_a_main_element_keep_their_headings(tmp_path):
    page = PAGE.replace("<main><article>", "<div>Advert</div>").replace("</article></main>", "")
    rows, _ = read(written(tmp_path / "a.html", page))
    # All headings and texts of the page with one, and nothing else.
    expected, _ = read(written(tmp_path / "b.html", PAGE))
    assert parts(rows) == parts(expected)


def test_headings_of_pages_without_a_text_below_are_left_out(tmp_path):
    page = PAGE.replace("<main><article>", "<div><h2>Share</h2></div>").replace("</article></main>", "<h2>Related</h2>")
    rows, _ = read(written(tmp_path / "a.html", page))
    assert [(row.title, row.section) for row in rows] == [("Dry cough", ""), ("Dry cough", "Treatment")]


def test_pdf_by_pages(tmp_path):
    rows, _ = read(written(tmp_path / "a.pdf", pdf("A reflex.", "", "Honey eases it.")))
    assert parts(rows) == [("Dry cough", "", "1", "A reflex."), ("Dry cough", "", "3", "Honey eases it.")]
    assert read(written(tmp_path / "b.pdf", pdf("")))[1] == {documents.NO_TEXT: 1}
    with pytest.raises(ValueError, match=f"{tmp_path}/c.pdf is a damaged PDF"):
        read(written(tmp_path / "c.pdf", b"%PDF-1.4\nno more"))


def test_pdf_by_size_and_gaps(tmp_path):
    first = [Line("Cough guide", 20), Line("Treatment", 16), *paragraph(PARAGRAPH), *paragraph("Honey eases a")]
    second = [Line("dry cough. It is not for babies."), Line("Tea", 12, True, 8), *paragraph("- hot"), Line("- mild")]
    rows, _ = read(written(tmp_path / "a.pdf", typeset([first, second], "Microsoft Word - a.docx")))
    assert parts(rows) == [
        ("Cough guide", "Treatment", "1", f"{PARAGRAPH.strip()}\n\nHoney eases a dry cough."),
        ("Cough guide", "Treatment", "2", "It is not for babies."),
        ("Cough guide", "Treatment > Tea", "2", "- hot\n\n- mild"),
    ]


@pytest.mark.parametrize("letter", ["00AD", "F0B7", "200B"])  # soft hyphen, bullet of Symbol, zero-width space
def test_lines_without_a_printable_letter_are_left_out(tmp_path, letter):
    content = typeset([list(map(Line, ["Tea helps.", "~", "Rest helps."]))])
    mapping = f"1 begincodespacerange <00> <ff> endcodespacerange 1 beginbfchar <7e> <{letter}> endbfchar"
    number = content.count(b" obj\n") + 1
    unicode = f"{number} 0 obj\n<< /Length {len(mapping)} >>\nstream\n{mapping}\nendstream\nendobj\n".encode()
    content = content.replace(b"/Helvetica >>", f"/Helvetica /ToUnicode {number} 0 R >>".encode())
    content = content[: content.index(b"xref\n")] + unicode + content[content.index(b"trailer") :]  # PDFium finds them
    rows, _ = read(written(tmp_path / "a.pdf", content))
    assert [row.text.split() for row in rows] == [["Tea", "helps.", "Rest", "helps."]]


def test_sections_of_a_pdf_without_a_title(tmp_path):
    lines = [Line("Cause", 16), *paragraph("Dust of many kinds."), Line("Outlook", 16), *paragraph("Mostly good.")]
    rows, _ = read(written(tmp_path / "a.pdf", typeset([lines])))
    assert parts(rows) == [("", "Cause", "1", "Dust of many kinds."), ("", "Outlook", "1", "Mostly good.")]


def test_lines_at_the_edge_of_most_pages_are_left_out(tmp_path):
    pages = [
        [Line("Guide 2026"), *paragraph(f"Text {'abc'[n]}."), Line(f"Page {n + 1} of 3", above=9)] for n in range(3)
    ]
    rows, _ = read(written(tmp_path / "a.pdf", typeset(pages)))
    assert [row.text for row in rows] == ["Text a.", "Text b.", "Text c."]
    rows, _ = read(written(tmp_path / "b.pdf", typeset(pages[:2])))  # two pages tell nothing
    assert rows[0].text.startswith("Guide 2026")
    assert rows[0].text.endswith("Page 1 of 3")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Our treat-", "ment is tea."], "Our treatment is tea."),
        (["Long-term use. Of long-", "term use."], "Long-term use. Of long-term use."),
        (["overweight and over-", "weight"], "overweight and overweight"),
        (["an x-", "ray"], "an x-ray"),
        ([*["Tea is hot."] * 40, "Take tea-", "spoons."], f"{'Tea is hot. ' * 40}Take tea-spoons."),
        (["of Lesch-", "Nyhan"], "of Lesch-Nyhan"),
        (["a fluid that is filled: fluid-", "filled"], "a fluid that is filled: fluid-filled"),
    ],
)
def test_hyphens_at_the_end_of_a_line(tmp_path, lines, expected):
    rows, _ = read(written(tmp_path / "a.pdf", typeset([list(map(Line, lines))])))
    assert [row.text for row in rows] == [expected]


def test_items_of_a_list_without_marks(tmp_path):
    items = ["fever", "a dry cough at night", "chills"]  # each line has room for the first word of the next one
    lines = [*paragraph(f"{PARAGRAPH * 2}Signs of it are"), *map(Line, items), *paragraph("They last a week.")]
    rows, _ = read(written(tmp_path / "a.pdf", typeset([lines])))
    assert rows[0].text.split("\n\n") == [f"{PARAGRAPH * 2}Signs of it are", *items, "They last a week."]


def test_one_line_beyond_the_margin_ends_no_paragraph(tmp_path):
    lines = paragraph(PARAGRAPH * 4)
    text = "Table 1: doses by age, weight, other medicines and the time of the day at which adults usually take them."
    wide = Line(text, above=20)
    rows, _ = read(written(tmp_path / "a.pdf", typeset([[*lines, wide]])))
    assert rows[0].text.split("\n\n") == [(PARAGRAPH * 4).strip(), wide.text]


def test_columns_of_a_page(tmp_path):
    texts = ["The usual cause of an infection is E. coli, which lives in the bowel of most people.", PARAGRAPH * 2]
    columns = [paragraph(text.strip(), 38) for text in texts]
    assert columns[0][0].text.endswith("E.")  # not the end of a sentence, though the page goes on at the right
    right = [line._replace(left=270) for line in columns[1]]
    right[0] = right[0]._replace(above=-14.4 * len(columns[0]))  # lines are 1.2 times 12 points high
    rows, _ = read(written(tmp_path / "a.pdf", typeset([[*columns[0], *right]])))
    assert rows[0].text.split("\n\n") == [text.strip() for text in texts]


def test_long_paragraphs_are_cut_between_sentences(tmp_path):
    rows, _ = read(written(tmp_path / "a.md", f"Begin. {PARAGRAPH * 25}"))
    assert all(row.text.endswith("after a cold.") and len(row.text) <= 1_000 for row in rows)
    assert " ".join(row.text for row in rows) == f"Begin. {PARAGRAPH * 25}".strip()


def test_word_documents(tmp_path):
    rows, _ = read(written(tmp_path / "a.docx", docx()))
    assert parts(rows) == [("Dry cough", "", "1", "A reflex\t & more."), ("Dry cough", "Treatment", "2", "Honey.")]
    with pytest.raises(ValueError, match=f"{tmp_path}/b.docx line 1 is not valid XML"):
        read(written(tmp_path / "b.docx", docx("<w:document>")))
    with pytest.raises(ValueError, match="declares the entity 'a'"):
        read(written(tmp_path / "b.docx", docx('<!DOCTYPE d [<!ENTITY a "b">]><d>&a;</d>')))


def test_pages_of_word_documents(tmp_path):
    noted, broken = "<w:lastRenderedPageBreak/>", '<w:br w:type="page"/>'

    def body(*paragraphs):
        runs = "".join(f"<w:p><w:r>{content}</w:r></w:p>" for content in paragraphs)
        return f'<?xml version="1.0"?><w:document {WORD}><w:body>{runs}</w:body></w:document>'

    def text(letter):
        return f'<w:t xml:space="preserve"> {letter} </w:t>'

    content = body(
        text("a") + broken,  # Word notes the page in the next paragraph
        noted + text("b") + noted + text("c"),
        broken,  # an empty page
        noted + broken,
        noted + text("d") + broken + text("e"),
        noted + text("f"),
    )
    rows, _ = read(written(tmp_path / "a.docx", docx(content)))
    # a on 1; b on 2, c behind it on 3; the breaks begin 4 and 5; d on 5, e on 6; f on 7.
    assert parts(rows) == [
        ("", "", page, text) for page, text in (("1", "a"), ("2", "b  c"), ("5", "d \n e"), ("7", "f"))
    ]


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


def test_a_page_that_holds_questions_only_names_the_rows_to_read(tmp_path):
    page = """<!DOCTYPE html><html><head><script type="application/ld+json">{"@context": "https://schema.org", "@type":
    "QAPage", "mainEntity": {"@type": "Question", "name": "q?", "acceptedAnswer": {"@type": "Answer", "text": "a"}}}
    </script></head><body></body></html>"""
    passages, refused = read(written(tmp_path / "q.html", page))
    assert (passages, refused) == ([], {documents.QUESTIONS: 1})
    assert "--rows=pairs" in documents.QUESTIONS
    assert read(written(tmp_path / "e.html", "<!DOCTYPE html><html><body></body></html>"))[1] == {documents.NO_TEXT: 1}
