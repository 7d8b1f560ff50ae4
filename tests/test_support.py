"""The check of support: verdicts on sentences by hand, and properties."""

import itertools

import numpy as np
import pytest

from docproduct.answering.evidence.scoring import Fitted
from docproduct.answering.support import Sentence, SupportChecker, support_share

ASTHMA = (
    "What are the treatments for asthma?",
    "Asthma is treated with inhaled steroids. In an attack, people take 40 mg of prednisone for 5 days. Smoking makes "
    "asthma worse. Antibiotics do not help against asthma. Steroids decrease the swelling in the airways. The main "
    "triggers are pollen, dust, smoke, and cold air. Can it be cured? There is no cure for asthma.",
)
FIBROSIS = (
    "How is cystic fibrosis treated?",
    "Cystic fibrosis is caused by mutations in the CFTR gene. Its treatment includes dornase alfa and physiotherapy of "
    "the chest. About 1 in 3,500 newborns has the disease.",
)
SOURCES = [ASTHMA, FIBROSIS]


@pytest.fixture(scope="module")
def checker():
    return SupportChecker()


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("Asthma is treated with inhaled steroids.", 1),
        ("Asthma can be treated with inhaled steroids.", 1),
        ("In short, smoking makes asthma worse.", 1),
        ("People with asthma take 40 mg of prednisone for five days in an attack.", 1),
        ("People with asthma take prednisone, 40mg, for 5 days.", 1),
        ("Antibiotics don't help against asthma.", 1),
        ("Asthma has no cure.", 1),
        ("Steroids reduce the swelling in the airways.", 1),
        ("The main triggers of asthma are cold air, smoke, dust and pollen.", 1),
        ("Cystic fibrosis is due to mutations of the CFTR gene.", 2),
        ("1 in 3500 newborns have cystic fibrosis.", 2),
    ],
)
def test_supported(checker, text, source):
    (sentence,) = checker(text, SOURCES)
    assert (sentence.supported, sentence.checkable, sentence.reason) == (True, True, "")
    assert sentence.sources == (source,)
    assert sentence.text == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("In an attack, people take 400 mg of prednisone for 5 days.", "The number 400 mg is not in the sources."),
        ("In an attack, people take 40 g of prednisone for 5 days.", "The number 40 g is not in the sources."),
        ("In an attack, people take 5 mg of prednisone for 40 days.", "The number 5 mg is not in the sources."),
        ("About 1 in 40 newborns has cystic fibrosis.", "Source 2 does not give the number 40 here."),
        ("Antibiotics do help against asthma.", "Of this sentence and source 1, one is negated and the other is not."),
        ("Asthma is not treated with inhaled steroids.", "one is negated and the other is not"),
        ("Steroids increase the swelling in the airways.", "Source 1 says 'decrease', not 'increase'."),
        ("Smoking makes asthma better.", "Source 1 says 'worse', not 'better'."),
        ("Cystic fibrosis is treated with inhaled steroids.", "Source 1 speaks of 'asthma', not of 'Cystic fibrosis'."),
        ("Asthma is caused by mutations in the CFTR gene.", "Source 2 speaks of 'cystic fibrosis', not of 'Asthma'."),
        ("Cystic fibrosis is caused by mutations in the BRCA1 gene.", "Source 2 does not mention 'BRCA1' here."),
        ("Asthma is treated with inhaled insulin.", "Source 1 does not mention 'insulin' here."),
        ("Gallstones are removed with a tube through the mouth.", "Not found in the sources."),
    ],
)
def test_not_supported(checker, text, expected):
    (sentence,) = checker(text, SOURCES)
    assert (sentence.supported, sentence.checkable) == (False, True)
    assert expected in sentence.reason


@pytest.mark.parametrize(
    "text",
    [
        "The sources do not say.",
        "I don't know.",
        "The sources say nothing about the treatment of gallstones.",
        "Is it inherited?",
        "Symptoms include:",
        "Yes.",
        "Please talk to your doctor about this.",
        "[1]",
        "来源中没有提到。",
        "Das sagen die Quellen nicht.",
    ],
)
def test_nothing_to_check(checker, text):
    (sentence,) = checker(text, SOURCES)
    assert (sentence.supported, sentence.checkable, sentence.sources, sentence.reason) == (False, False, (), "")


def test_the_end_of_a_longer_sentence_is_no_refusal(checker):
    (sentence,) = checker("The sources do not say more, but 500 mg of aspirin cures it.", SOURCES)
    assert sentence.checkable
    assert not sentence.supported


@pytest.mark.parametrize("source", [0, 1])
def test_copies_are_supported_in_any_order_of_sources(checker, source):
    answer = SOURCES[source][1]
    for place, sources in ((source, SOURCES), (1 - source, SOURCES[::-1])):
        for sentence in checker(answer, sources):
            assert sentence.supported or not sentence.checkable
            assert not sentence.checkable or place + 1 in sentence.sources


def test_the_order_of_sources_makes_no_difference(checker):
    third = ("What is asthma?", "Asthma is a disease of the airways. It affects 8 percent of adults.")
    text = (
        "Asthma is treated with steroids. It affects 9 percent of adults. Cystic fibrosis is no disease of the airways."
    )
    verdicts = {
        tuple((s.score, s.supported, s.checkable) for s in checker(text, sources))
        for sources in itertools.permutations([*SOURCES, third])
    }
    assert len(verdicts) == 1


@pytest.mark.parametrize(
    ("text", "shown", "cited", "unknown"),
    [
        ("Smoking makes asthma worse [1].", "Smoking makes asthma worse [1].", (1,), ()),
        ("Smoking makes asthma worse. [1, 2]", "Smoking makes asthma worse. [1, 2]", (1, 2), ()),
        ("Smoking makes asthma worse [2][1].", "Smoking makes asthma worse [2][1].", (1, 2), ()),
        ("Smoking makes asthma worse [3].", "Smoking makes asthma worse.", (), (3,)),
        ("Smoking makes asthma worse [1, 7, 0].", "Smoking makes asthma worse [1].", (1,), (0, 7)),
        ("Smoking makes asthma worse [1-3].", "Smoking makes asthma worse [1, 2].", (1, 2), (3,)),
        ("Smoking makes asthma worse [99999999999999].", "Smoking makes asthma worse.", (), (999999999,)),
        ("Smoking [sic] makes asthma worse.", "Smoking [sic] makes asthma worse.", (), ()),
    ],
)
def test_citations(checker, text, shown, cited, unknown):
    (sentence,) = checker(text, SOURCES)
    assert (sentence.text, sentence.cited, sentence.unknown) == (shown, cited, unknown)
    assert sentence.supported


def test_a_growing_text_gives_what_the_whole_gives(checker):
    text = "Asthma is treated with steroids [1]. Take 0.5 mg, e.g. at noon. [2] Smoking makes asthma worse"
    whole = checker(text, SOURCES)
    check = checker.against(SOURCES)
    for end in range(len(text)):
        part = check(text[:end], finished=False)
        assert part == whole[: len(part)]
    assert check(text) == whole
    assert "".join(sentence.text for sentence in whole) == text


def test_a_sentence_is_encoded_once():
    encoded = []

    def embed(texts):
        encoded.extend(texts)
        return np.tile(np.float32([1, 0]), (len(texts), 1))

    check = SupportChecker(embed).against(SOURCES)
    check("Smoking makes asthma worse. Asthma has no cure.", finished=False)
    assert encoded[0] == "Smoking makes asthma worse."
    assert "Asthma has no cure." not in encoded
    check("Smoking makes asthma worse. Asthma has no cure.")
    assert encoded.count("Asthma has no cure.") == 1
    assert len(encoded) == len(set(encoded[:3])) + len(set(encoded[3:]))  # 3 texts of a sentence: itself, 2 of sources


def test_a_distant_vector_lowers_the_score():
    def embed(texts):
        return np.array([[1, 0] if "worse" in text else [0, 1] for text in texts], np.float32)

    (near,) = SupportChecker(embed)("Smoking makes the asthma worse.", SOURCES)
    (far,) = SupportChecker(embed)("Smoking makes the asthma bad.", SOURCES)
    assert near.supported
    assert far.score < near.score


def test_no_sources(checker):
    (sentence,) = checker("Asthma is treated with steroids.", [])
    assert (sentence.supported, sentence.checkable, sentence.sources) == (False, True, ())
    assert sentence.reason == "There are no sources."
    (sentence,) = checker("Asthma is treated with steroids.", [("What?", "")])
    assert not sentence.supported
    assert checker("", SOURCES) == []


def test_share():
    yes, no, nothing = (
        Sentence("", supported=s, checkable=c) for s, c in ((True, True), (False, True), (False, False))
    )
    assert support_share([yes, yes, no, nothing]) == pytest.approx(2 / 3)
    assert support_share([nothing]) is None


@pytest.mark.parametrize(
    ("text", "supported"),
    [
        ("平时要适当活动。", True),
        ("高血压患者每天口服5毫克。", True),
        ("高血压患者每天口服50毫克。", False),
        ("高血压患者不可以吸烟。", True),
        ("糖尿病患者应当注射胰岛素治疗。", False),
    ],
)
def test_chinese(checker, text, supported):
    sources = [("高血压有什么要注意的？", "平时要适当活动。高血压患者不可以吸烟。高血压患者每天口服5毫克。")]
    (sentence,) = checker(text, sources)
    assert sentence.checkable
    assert sentence.supported == supported


def test_every_sign_can_only_lower_the_score():
    fitted = Fitted.load()
    for scoring in (fitted.by_words, fitted.with_encoder):
        assert (scoring.weights >= 0).all()
        assert scoring.distance_weight >= 0
        assert scoring.score(np.zeros(len(scoring.weights))) > scoring.threshold


def test_stored_weights_are_read_as_they_were_written(tmp_path):
    fitted = Fitted.load()
    fitted.save(tmp_path / "fitted.json", "a command")
    again = Fitted.load(tmp_path / "fitted.json")
    assert again.word_weights == fitted.word_weights
    np.testing.assert_array_equal(again.by_words.weights, fitted.by_words.weights)
    assert again.with_encoder.threshold == fitted.with_encoder.threshold
