"""Quotes in tables delimit fields where they fit and are text elsewhere; none swallows other rows."""

import csv
import io
import random
import time

import pytest

from data_pipeline.corpora import Columns, Refusals, read_pairs

AS_TEXT = "a quote is text, as quoting does not fit"
AMBIGUOUS = "lines were read as one quoted field, but could also be rows"
NOT_SWALLOWED = "two quotes are text, as more than 10 rows stand between them"
NEEDLESS = "quotes around a field that needs none were left out"


def read(path, content, columns=Columns()):
    path.write_bytes(content.encode())
    refusals = Refusals()
    pairs = [(place.partition(" ")[2], pair) for place, pair in read_pairs(str(path), columns, refusals)]
    return [(pair.question, pair.answer) for _, pair in pairs], [place for place, _ in pairs], refusals


@pytest.mark.parametrize("delimiter", ["\t", ",", ";"])
@pytest.mark.parametrize(
    ("row", "rows"),
    [
        ('q|"a|b"', [("q", "a|b")]),
        ('q|"line 1\nline 2"', [("q", "line 1\nline 2")]),
        ('q|"line 1\r\n\r\nline 3"', [("q", "line 1\r\n\r\nline 3")]),
        ('"say ""x"""|a', [('say "x"', "a")]),
        ('q|""', [("q", "")]),
        ('q 5" nail|a', [('q 5" nail', "a")]),
        ('q|a 5"', [("q", 'a 5"')]),
        ('"Tall" people|a', [('"Tall" people', "a")]),
        ('q|"a" and "b"', [("q", '"a" and "b"')]),
        ('"open|a', [('"open', "a")]),
        ('q|"open', [("q", '"open')]),
        ('q|"', [("q", '"')]),
        ('"open|a\nr|say "x"', [('"open', "a"), ("r", 'say "x"')]),
        ('"open|a\nr|"x"', [('"open', "a"), ("r", "x")]),
        ('"open|a\nr|"x"\ns|"open\nt|b', [('"open', "a"), ("r", "x"), ("s", '"open'), ("t", "b")]),
        ('"open|a\nr|"x\ny"', [('"open', "a"), ("r", "x\ny")]),  # a quoted field after a stray quote
        ('"open|a\nr|"say ""x"" twice"', [('"open', "a"), ("r", 'say "x" twice')]),
        ('"open|a\nr|""doubled""', [('"open', "a"), ("r", '""doubled""')]),
        ('"q|r"|a|b', [('"q|r"|a|b', None)]),  # neither reading has two fields
        ('q|"a \\"b\\" c"', [("q", '"a \\"b\\" c"')]),  # a backslash quotes nothing
        ("q|a|", [("q", "a")]),
        ('"q"|"a"||', [("q", "a")]),
        ('q|"a\rb"', [("q", "a\rb")]),
        ("q|a\rb", [("q", "a\rb")]),
        ("\n\nq|a\n", [("q", "a")]),
    ],
)
def test_quotes_delimit_fields_or_are_text(tmp_path, delimiter, row, rows):
    content = f"question|answer\n{row}\nlast|row\n".replace("|", delimiter)
    expected = [
        tuple(text.replace("|", delimiter) for text in pair) for pair in [*rows, ("last", "row")] if pair[1] is not None
    ]
    for ending in ("", "\n"):
        received, _, refusals = read(tmp_path / "a.tsv", content.rstrip("\n") + ending)
        assert received == expected
        assert sum(refusals.counts.values()) == sum(pair[1] is None for pair in rows)


def test_three_columns_decide_which_reading_fits(tmp_path):
    # With quoting the line has two fields; as plain text it has three, like the header.
    rows, _, refusals = read(tmp_path / "a.tsv", 'id\tquestion\tanswer\n"1\tq"\ta\n')
    assert rows == [('q"', "a")]
    assert refusals.notes() == {AS_TEXT: {"times": 1, "first": f"{tmp_path}/a.tsv line 2"}}


def test_quotes_read_as_text_are_noted_with_their_first_line(tmp_path):
    content = 'question,answer\nq,a\n"open,b\nr,c\n"open,d\n'
    rows, places, refusals = read(tmp_path / "a.csv", content)
    assert rows == [("q", "a"), ('"open', "b"), ("r", "c"), ('"open', "d")]
    assert places == ["line 2", "line 3", "line 4", "line 5"]
    assert refusals.notes() == {AS_TEXT: {"times": 2, "first": f"{tmp_path}/a.csv line 3"}}


def test_ambiguous_lines_are_one_field_and_noted(tmp_path):
    content = 'question,answer\nq,"one\nand, two"\nr,"three\nfour"\ns,"five\n, six"\n'
    rows, places, refusals = read(tmp_path / "a.csv", content)
    assert rows == [("q", "one\nand, two"), ("r", "three\nfour"), ("s", "five\n, six")]
    assert places == ["line 2", "line 4", "line 6"]
    assert refusals.notes() == {AMBIGUOUS: {"times": 2, "first": f"{tmp_path}/a.csv line 2"}}


def test_two_stray_quotes_do_not_swallow_the_rows_between_them(tmp_path):
    between = [(f"q{i}", f"a{i}") for i in range(500)]
    content = 'question\tanswer\nq\t"stray\n' + "".join(f"{q}\t{a}\n" for q, a in between) + 'r\t5"\n'
    rows, _, refusals = read(tmp_path / "a.tsv", content)
    assert rows == [("q", '"stray'), *between, ("r", '5"')]
    assert refusals.notes() == {NOT_SWALLOWED: {"times": 1, "first": f"{tmp_path}/a.tsv line 2"}}
    # The lines of a long quoted text are no rows: the reading is not in doubt.
    text = "\n".join(f"line {i}" for i in range(500))
    rows, _, refusals = read(tmp_path / "a.tsv", f'question\tanswer\nq\t"{text}"\n')
    assert rows == [("q", text)]
    assert refusals.notes() == {}


def test_needless_quotes_in_a_tsv_are_noted(tmp_path):
    content = 'question\tanswer\n"Gone"\ta\nq\t"with ""x"""\nr\t"a\nb"\n'
    rows, _, refusals = read(tmp_path / "a.tsv", content)
    assert rows == [("Gone", "a"), ("q", 'with "x"'), ("r", "a\nb")]
    assert refusals.notes() == {NEEDLESS: {"times": 1, "first": f"{tmp_path}/a.tsv line 2"}}
    # If the names of the header are quoted, all fields are.
    assert read(tmp_path / "a.tsv", content.replace("question\tanswer", '"question"\t"answer"'))[2].notes() == {}
    # In a CSV they are the rule.
    assert read(tmp_path / "a.csv", content.replace("\t", ","))[2].notes() == {}


def test_lines_that_end_with_a_carriage_return(tmp_path):
    assert read(tmp_path / "a.csv", 'question,answer\rq,"a\nb"\rr,c\r')[0] == [("q", "a\nb"), ("r", "c")]
    assert read(tmp_path / "a.csv", 'question,answer\r\nq,"a\r\nb"\r\nr,c\r\n')[0] == [("q", "a\r\nb"), ("r", "c")]


def test_columns_without_a_name_at_the_end(tmp_path):
    rows, _, refusals = read(tmp_path / "a.csv", "question,answer,,\nq,a,,\nr,b\ns,c,more\nt\n")
    assert rows == [("q", "a"), ("r", "b"), ("s", "c")]
    assert refusals.report()["another number of fields than the header"]["first"] == f"{tmp_path}/a.csv line 5"


def test_a_quoted_row_with_another_number_of_fields_is_refused_once(tmp_path):
    rows, _, refusals = read(tmp_path / "a.csv", 'id,question,answer\n1,q,"a\nb\nc",more\n2,r,d\n')
    assert rows == [("r", "d")]
    assert refusals.report() == {
        "another number of fields than the header": {"rows": 1, "first": f"{tmp_path}/a.csv line 2", "position": 0}
    }


def test_a_header_with_line_breaks_and_one_with_a_stray_quote(tmp_path):
    columns = Columns("the\nquestion", "answer")
    assert read(tmp_path / "a.csv", '"the\nquestion",answer\nq,a\n', columns)[:2] == ([("q", "a")], ["line 3"])
    assert read(tmp_path / "a.csv", '"id,question,answer\n1,q,a\n2,r,b\n')[0] == [("q", "a"), ("r", "b")]


def test_tables_of_the_csv_module_are_read_back(tmp_path):
    dice = random.Random(0)
    pieces = ["a", "b c", '"', '""', "\n", "\r\n", ",", "\t", ";", "é", " "]
    for delimiter in ",\t;":
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
            for _ in range(30):
                rows = [
                    ("x" + "".join(dice.choices(pieces, k=5)), "".join(dice.choices(pieces, k=9))) for _ in range(9)
                ]
                file = io.StringIO()
                csv.writer(file, delimiter=delimiter, quoting=quoting).writerows([("question", "answer"), *rows])
                received, _, refusals = read(tmp_path / "a.csv", file.getvalue(), Columns(delimiter=delimiter))
                assert received == rows, file.getvalue()
                assert not refusals.counts


@pytest.mark.parametrize(
    "lines",
    [
        ['q\t"open'] + ["q\ta"] * 100_000,  # a quote that never closes
        ['q\t"open'] + ["q\ta"] * 50_000 + ['q\t"open'] + ["q\ta"] * 50_000,
        ['x\t"b', *['a"\t"b'] * 100_000, 'a"\tz'],  # every quote closes and opens a field
        ['q\t"open'] + ['"q"\t""'] * 100_000,
        ['"q\t"a'] * 100_000,
        ['q\t"a"" b'] * 100_000,
        ["q\ta\t"] * 100_000,
    ],
)
def test_every_line_is_a_row_in_linear_time(tmp_path, lines):
    path = tmp_path / "a.tsv"
    path.write_text("question\tanswer\n" + "\n".join(lines) + "\n")
    start = time.process_time()
    assert sum(1 for _ in read_pairs(str(path), Columns(), Refusals())) == len(lines)
    assert time.process_time() - start < 10  # takes about a second; quadratic time would be hours
