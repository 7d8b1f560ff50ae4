"""Misspelt words are corrected by the words of the table; known words, other languages and short words stay."""

import pytest

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.tokenizers import WordPiece
from docproduct import index
from docproduct.answering import Answerer, Query, terminal
from docproduct.answering.emergency import Emergency
from docproduct.index import Index, IndexSettings, refusals
from docproduct.search.spelling import Speller
from tests.conftest import write_csv

COUNTS = {
    "asthma": 3,
    "fever": 9,
    "sneeze": 2,
    "treats": 4,
    "pollen": 1,
    "what": 9,
    "is": 9,
    "hypoglycemia": 2,
    "microcephaly": 2,
    "arthritis": 2,
    "fearer": 3,
    "ferier": 2,
    "hellp": 2,
}


class Words:
    """A tokenizer whose only whole words are these; it cuts all others in two."""

    def __init__(self, *words):
        self._words = words

    def encode_few(self, texts, max_tokens):
        return texts

    def decode(self, word):
        return ["[CLS]", *([word] if word in self._words else [word[:2], f"##{word[2:]}"]), "[SEP]"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("what is astma", "what is asthma"),  # a letter was dropped
        ("what is asthmma?", "what is asthma?"),  # doubled
        ("what is ashtma", "what is asthma"),  # swapped
        ("what is asthmma, astma", "what is asthma, asthma"),
        ("What is Astma? FEVRE", "What is Asthma? FEVRE"),
        ("astma", "asthma"),
        ("ferer", "fearer"),  # ferier is as near, but rarer
        ("what is athsma", "what is athsma"),  # two slips in a short word
        ("WHAT IS ASTMA", "WHAT IS ASTHMA"),
        ("what is HELLPP", "what is HELLPP"),  # an abbreviation
        # Right words that the table lacks: a letter is another, is added, or stands at the end.
        ("what is macrocephaly", "what is macrocephaly"),
        ("what is hyperglycemia", "what is hyperglycemia"),
        ("what is arteritis", "what is arteritis"),
        ("what are fevers", "what are fevers"),
        ("what is sneez", "what is sneez"),
        ("what is polen", "what is polen"),  # pollen stands in one text only
        ("what is pollen", "what is pollen"),
        ("what is treat", "what is treat"),  # a word of the language
        ("what is esthma", "what is esthma"),  # the first letter is seldom wrong
        ("iss what", "iss what"),  # too short
        ("x" * 100_000 + " what", "x" * 100_000 + " what"),  # longer than any word of a table
        ("astma zwei drei vier", "astma zwei drei vier"),  # another language
        ("哮喘 astma2", "哮喘 astma2"),
    ],
)
def test_corrections(asked, expected):
    assert Speller(COUNTS, Words("treat")).correct(asked) == expected


def test_nothing_is_known():
    assert Speller({}, Words()).correct("what is astma") == "what is astma"


def test_a_vocabulary_knows_its_whole_words():
    tokenizer = WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "what", "bicycle", "##x"], True)
    speller = Speller({"bicyclee": 5, "biicycle": 5, "what": 1}, tokenizer)
    assert speller.correct("what bicycle") == "what bicycle"
    assert speller.correct("what biiccycle") == "what biicycle"


LETTERS = "abcdefghij"
ROWS = [(f"what is {a}{b}{c}?", f"the {a} {b} {c} treatment.") for a in LETTERS for b in LETTERS for c in "kl"]


def test_an_answer_says_what_was_searched_for(tiny_retriever, vocab_file, tmp_path, capsys, monkeypatch):
    retriever, _ = tiny_retriever
    gather, calibrated_with = refusals.gather, []
    monkeypatch.setattr(refusals, "gather", lambda *args: calibrated_with.append(args[3]) or gather(*args))
    prepare(PrepareSettings((write_csv(tmp_path / "t.csv", ROWS),), vocab_file, dev_share=0.0), str(tmp_path / "p"))
    index.build(retriever, PreparedFolder(str(tmp_path / "p")), str(tmp_path / "i"), IndexSettings(kept=0.8))
    opened = Index(str(tmp_path / "i"), retriever)
    answerer = Answerer(retriever, opened, emergency=Emergency(["treatment"]))
    slip, right = "what is the abk treatmnet?", "what is the abk treatment?"
    assert opened.correct(slip) == calibrated_with[0](slip) == right
    assert Index.open_vectors(str(tmp_path / "i")).correct(slip) == slip
    answers = answerer.retrieve([Query(slip, 5), Query(right, 5), Query(slip, 5, correct=False)])
    corrected, typed_right, as_typed = answers
    assert (corrected.question, corrected.corrected, corrected.as_json()["corrected"]) == (slip, right, right)
    assert [hit.pair_id for hit in corrected.hits] == [hit.pair_id for hit in typed_right.hits]
    assert typed_right.corrected is as_typed.corrected is None
    assert corrected.emergency == typed_right.emergency != as_typed.emergency
    for answer in answers:
        terminal.show([answer])
        assert (f"Searched for: {right}" in capsys.readouterr().err) == (answer is corrected)
