"""Documents from texts and tables, cut into passages."""

import json

import pytest

from data_pipeline.corpora import Columns, Refusals
from data_pipeline.corpora.passages import PASSAGES, read_passages
from data_pipeline.generate_questions.passages import TOO_SHORT, TWICE, PassageSettings, cut, documents, passage_id
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.rows import Passage
from data_pipeline.tokenizers import load_tokenizer
from tests.commands import run

BOOK = """Before all.

# Asthma
Airways are narrow. They are inflamed.

Some people wheeze.
## Treatment ##
Steroids are inhaled.
```
# no heading
```
# Fever
It is hot.
"""


def read(path, content, columns=Columns()):
    path.write_text(content, encoding="utf-8")
    refusals = Refusals()
    return [row for _, row in read_passages(str(path), columns, refusals)], refusals


def passages_of(document, **settings):
    refusals = Refusals()
    found = cut([("here", document)], PassageSettings(**{"least_size": 1} | settings), refusals)
    return list(found.values()), refusals


def test_a_text_file_is_cut_at_headings(tmp_path):
    rows, _ = read(tmp_path / "book.md", BOOK)
    assert rows[0] == Passage("Before all.", source="book.md")
    passages = [passage for row in rows for passage in passages_of(row)[0]]
    assert [passage.title for passage in passages] == ["", "Asthma", "Asthma > Treatment", "Fever"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"passage": "P", "answer": "A"}, Passage("P", source="t.jsonl")),
        ({"question": "Q", "answer": "A", "focus": "f", "source": "s"}, Passage("A", "", "s", "f")),
        ({"contexts": ["One.", "Two."], "long_answer": "L"}, Passage("One.\n\nTwo.", source="t.jsonl")),
        ({"title": "T", "text": "<p>One</p><p>Two</p>"}, Passage("One\n\nTwo", "T", "t.jsonl")),
    ],
)
def test_tables_have_a_column_with_texts(tmp_path, row, expected):
    rows, refusals = read(tmp_path / "t.jsonl", f"{json.dumps(row)}\n" * 2)
    assert rows == [expected] * 2
    assert not refusals.counts


def test_a_column_is_named_and_rows_without_a_text_are_counted(tmp_path):
    content = "id,body,notes\n1,ignored,kept\n2,ignored,\n"
    rows, refusals = read(tmp_path / "t.csv", content, Columns(question="notes"))
    assert [row.text for row in rows] == ["kept"]
    assert sum(refusals.counts.values()) == 1
    with pytest.raises(ValueError, match="has no column 'text'"):
        read(tmp_path / "u.csv", "id,number\n1,2\n")


def test_headings_begin_passages_and_make_titles():
    passages, _ = passages_of(Passage(BOOK, "Book", "b.md"))
    assert [(passage.title, passage.text) for passage in passages] == [
        ("Book", "Before all."),
        ("Book > Asthma", "Airways are narrow. They are inflamed.\nSome people wheeze."),
        ("Book > Asthma > Treatment", "Steroids are inhaled.\n```\n# no heading\n```"),
        ("Book > Fever", "It is hot."),
    ]
    assert {passage.source for passage in passages} == {"b.md"}


@pytest.mark.parametrize("size", [20, 33, 50, 90, 400])
def test_no_passage_is_too_long_and_no_word_is_lost(size):
    words, long_word = " ".join(f"word{i}" for i in range(40)), "".join(map(str, range(100, 125)))
    text = f"One sentence is here. Another, longer sentence follows it.\n\n{words}\n\n{long_word} End."
    passages, _ = passages_of(Passage(text), passage_size=size)
    assert max(len(passage.text) for passage in passages) <= size
    assert "".join("".join(passage.text.split()) for passage in passages) == "".join(text.split())


def test_passages_of_a_section_have_like_sizes():
    # Ten paragraphs of 31 characters with their line break: two passages of five, not one of nine and one of one.
    text = "\n\n".join(f"{number} is a sentence of thirty abc." for number in range(10))
    passages, _ = passages_of(Passage(text), passage_size=300)
    assert [passage.text.count("\n") + 1 for passage in passages] == [5, 5]


def test_sizes_in_tokens(vocab_file):
    # Each word below is one token of the vocabulary, and so is the stop: 40, of which 22 fit into a passage.
    text = "".join(f"what is {number}. " for number in range(10))
    passages, _ = passages_of(Passage(text), passage_size=22, tokenizer=vocab_file)
    tokenizer = load_tokenizer(vocab_file)
    sizes = [len(tokenizer.encode_few([passage.text], 99)[0]) - 2 for passage in passages]
    assert sizes == [20, 20]


def test_short_and_repeated_passages_are_counted():
    rows = [("a", Passage("A long enough text.")), ("b", Passage("Short.")), ("c", Passage("A long  enough text."))]
    refusals = Refusals()
    passages = cut(rows, PassageSettings(least_size=10), refusals)
    assert [passage.text for passage in passages.values()] == ["A long enough text."]
    assert refusals.counts == {TOO_SHORT: 1, TWICE: 1}
    with pytest.raises(ValueError, match="There is no passage"):
        cut(rows[1:2], PassageSettings(least_size=10), Refusals())
    with pytest.raises(ValueError, match="least_size is 200; expected at most 100"):
        PassageSettings(passage_size=100, least_size=200)


def test_ids_are_hashes_of_the_text_alone():
    assert passage_id(Passage("Text.", "T")) == passage_id(Passage("Text.", source="s"))
    assert passage_id(Passage("Text.")) != passage_id(Passage("Text!"))
    assert len(passage_id(Passage("Text."))) == 16


def test_answers_of_prepared_pairs(prepared):
    rows = [row for _, row in documents((), prepared.path, "train", Columns(), Refusals())]
    assert sorted(row.text for row in rows) == sorted(prepared.table(["answer"], "train")["answer"].to_pylist())
    assert all(row.source == "pairs.csv" for row in rows)


def test_prepared_passages(tmp_path, vocab_file):
    (tmp_path / "t.jsonl").write_text('{"text": "What is the?"}\n{"text": "What helps against?"}\n', encoding="utf-8")
    settings = PrepareSettings((str(tmp_path / "t.jsonl"),), vocab_file, dev_share=0.0)
    prepare(settings, str(tmp_path / "p"), reader=PASSAGES)
    rows = [row for _, row in documents((), str(tmp_path / "p"), "train", Columns(), Refusals())]
    assert {row.text for row in rows} == {"What is the?", "What helps against?"}


def test_passages_need_no_dev_part(tmp_path, vocab_file):
    path = tmp_path / "a.md"
    path.write_text("# Tea\n\nA drink.\n")
    names = [f"--input={path}", f"--tokenizer={vocab_file}", f"--output_dir={tmp_path}/out"]
    done = run("data_pipeline.prepare", "--rows=passages", "--num_workers=0", *names)
    assert done.returncode == 0, done.stderr
    assert "There are no rows in dev" not in done.stderr
