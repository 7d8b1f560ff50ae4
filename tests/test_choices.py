"""Multiple choice without training: likelihoods by hand, metrics against scikit-learn."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from sklearn.metrics import jaccard_score

from data_pipeline import rows
from data_pipeline.corpora.choices import CHOICE_ROWS
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.tokenizers import DecoderTokenizer
from docproduct import choices
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.multiple_choice import baselines, questions
from docproduct.systems.multiple_choice.likelihood import NORMALIZATIONS, Likelihood, normalized
from docproduct.systems.multiple_choice.metrics import choose, fit_threshold, metrics
from docproduct.systems.multiple_choice.questions import Asked
from tests.test_bert import randomize

SIZES = GPT2Config(vocab_size=290, width=16, num_layers=2, num_heads=2, max_positions=200)
TEXTS = [
    ("what helps?", ("the cause", "y", "against x z"), (1,), 0, "the x is against y. " * 3),
    ("what is x?", ("y and z", "é"), (0, 1), 1, ""),
    ("what is the cause?", ("what", "the", "is", "of"), (3,), 0, ""),
]


def asked(question, texts, correct=(0,), several=0, context="", earlier=()):
    return Asked(rows.Choices(question, texts, correct, several, context, question), tuple(earlier))


QUESTIONS = [asked(*texts) for texts in TEXTS]


@pytest.fixture(scope="module")
def generator(bpe):
    generator = TrainedGenerator.make(SIZES, bpe)
    randomize(generator.decoder)
    return generator


def by_hand(generator, prompt, choice):
    """Returns the sum of the log-probabilities of a choice's tokens, each behind all before it."""
    prompt_ids, choice_ids = generator.tokenizer.encode([prompt, f" {choice}"])
    ids = [*prompt_ids, *choice_ids]
    logits = generator.decoder.logits(generator.decoder(tf.constant([ids]))).numpy()[0]
    log_probs = scipy.special.log_softmax(logits, axis=-1)
    return sum(log_probs[place - 1, ids[place]] for place in range(len(prompt_ids), len(ids)))


def test_choices_are_tokenized_together_with_their_prompt():
    """LLaMA 2's tokenizers put a blank before every text, and its begin mark."""
    mark = {"content": "<s>", "special": True, "single_word": False, "lstrip": False, "rstrip": False}
    blank = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    no_blank = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    begins = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    pieces = dict.fromkeys(["<s>", *"\u2581\nQuestion:Answer qxy", "\u2581x"])
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    content = {
        "added_tokens": [{"id": 0, "normalized": False, **mark}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, blank]},
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": begins,
            "pair": begins,
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [no_blank, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]},
        "model": {"type": "BPE", "vocab": vocabulary, "merges": ["\u2581 x"], "unk_token": None},
    }
    tokenizer = DecoderTokenizer.from_json(content, {"bos_token": "<s>", "eos_token": "<s>"}, "here")
    (encoded,) = questions.encode([asked("q", ("x", "y"))], tokenizer, 99)
    assert encoded.prompt_ids[:2] == [0, vocabulary["\u2581"]]
    assert encoded.choice_ids == [[vocabulary["\u2581x"]], [vocabulary["\u2581"], vocabulary["y"]]]


def test_likelihoods_are_sums_by_hand(generator):
    prompts = [
        f"{TEXTS[0][4]}\n\nQuestion: what helps?\nAnswer:",
        "Question: what is x?\nAnswer:",
        "Question: what is the cause?\nAnswer:",
    ]
    sums = Likelihood(generator).sums(QUESTIONS)
    for prompt, question, values in zip(prompts, QUESTIONS, sums, strict=True):
        expected = [by_hand(generator, prompt, choice) for choice in question.row.choices]
        np.testing.assert_allclose(values, expected, atol=1e-4)


def test_permuted_choices_have_permuted_likelihoods(generator):
    order = [2, 0, 1]
    permuted = asked(*TEXTS[0][:1], tuple(TEXTS[0][1][i] for i in order), (2,), 0, TEXTS[0][4])
    (values,), (expected,) = (Likelihood(generator).sums([question]) for question in (permuted, QUESTIONS[0]))
    np.testing.assert_allclose(values, expected[order], atol=1e-5)


def test_normalizations_are_those_of_the_harness():
    """acc_norm divides by characters and acc_bytes by bytes of the choice, without the blank before it."""
    sums, question = [np.array([-6.0, -4.0])], [asked("q", ("été", "ab"))]
    expected = dict(zip(NORMALIZATIONS, ([-6.0, -4.0], [-2.0, -2.0], [-1.2, -2.0]), strict=True))
    for how, values in expected.items():
        np.testing.assert_allclose(normalized(sums, question, how)[0], values)


def test_scores_are_those_of_lm_evaluation_harness():
    """On the same log-likelihoods; golden/make_choice_scores.py made them."""
    golden = json.loads((pathlib.Path(__file__).parent / "golden" / "choice_scores.json").read_text())
    many = [asked(question, tuple(texts), (gold,)) for question, texts, gold in golden["questions"]]
    requests = [(question.rest(), f" {choice}") for question in many for choice in question.row.choices]
    assert requests == [tuple(request[:2]) for request in golden["asked"]]
    values = iter(request[2] for request in golden["asked"])
    sums = [np.array([next(values) for _ in question.row.choices]) for question in many]
    assert len({golden["scores"][name] for name in NORMALIZATIONS}) == 3
    for name in NORMALIZATIONS:
        found = metrics(choose(normalized(sums, many, name), many, np.inf), many)
        expected = {"accuracy": golden["scores"][name], "accuracy_stderr": golden["scores"][f"{name}_stderr"]}
        assert found == pytest.approx(expected)


def test_what_is_too_long_is_cut(generator):
    whole = questions.encode(QUESTIONS[:1], generator.tokenizer, 200)[0]
    size = len(whole) - 10
    cut = questions.encode(QUESTIONS[:1], generator.tokenizer, size)[0]
    num_rest = len(generator.tokenizer.encode([QUESTIONS[0].rest()])[0])
    assert (whole.is_cut, cut.is_cut, len(cut)) == (False, True, size)
    assert cut.prompt_ids[-num_rest:] == whole.prompt_ids[-num_rest:]
    assert cut.prompt_ids[:5] == whole.prompt_ids[:5]
    assert "\n\nQuestion" in generator.tokenizer.decode(cut.prompt_ids)
    series = dataclasses.replace(QUESTIONS[0], earlier=(("what is the first?" * 3, "y"), ("what is x?", "z")))
    shorter = questions.encode([series], generator.tokenizer, size)[0]
    text = generator.tokenizer.decode(shorter.prompt_ids)
    assert ("first" in text, "what is x?\nAnswer: z" in text, shorter.is_cut) == (False, True, True)
    long = asked("what is it? " * 9 + "what helps?", ("x", "y"), (0,), context="the x.")
    (end,) = questions.encode([long], generator.tokenizer, 30)
    assert (len(end), end.is_cut) == (30, True)
    assert generator.tokenizer.decode(end.prompt_ids).endswith("what helps?\nAnswer:")
    with pytest.raises(ValueError, match="choices .* have 58 tokens; expected fewer than 20.*what helps.*--max_tokens"):
        questions.encode([asked("what helps?", ("x " * 14, "y " * 14))], generator.tokenizer, 20)
    with pytest.raises(ValueError, match="may have 201 tokens; expected at most 200"):
        Likelihood(generator, 201)


def test_metrics_equal_scikit_learns():
    random = np.random.default_rng(0)
    many = [asked("q", tuple("abcde"), tuple(np.flatnonzero(random.random(5) < 0.4)) or (0,), 1) for _ in range(50)]
    scores = [random.random(5) for _ in many]
    chosen = choose(scores, many, 0.6)
    found, expected = (np.zeros((50, 5), int) for _ in range(2))
    for i, question in enumerate(many):
        found[i, list(chosen[i])] = expected[i, list(question.row.correct)] = 1
    result = metrics(chosen, many)
    assert result["hamming"] == pytest.approx(jaccard_score(expected, found, average="samples"))
    assert result["exact_match"] == pytest.approx(np.mean((found == expected).all(axis=1)))
    assert "accuracy" not in result
    singles = metrics([frozenset([0]), frozenset([1]), frozenset([0])], [asked("q", ("a", "b"))] * 3)
    assert singles == {
        "accuracy": pytest.approx(2 / 3),
        "accuracy_stderr": pytest.approx(np.std([1, 0, 1], ddof=1) / 3**0.5),
    }


def test_of_equal_scores_the_order_does_not_decide():
    many = [asked(f"q {i}", tuple("abc"), (0,)) for i in range(300)]
    zeros = [np.zeros(3)] * len(many)
    assert 0.2 < metrics(choose(zeros, many, 0.5), many)["accuracy"] < 0.42
    (one,), (other,) = (choose(zeros[:1], [asked("q", texts)], 0.5) for texts in (tuple("abc"), tuple("cab")))
    assert {"abc"[place] for place in one} == {"cab"[place] for place in other}


def test_the_threshold_has_the_most_exact_matches():
    scores = [np.array([0.5, 0.45, 0.05]), np.array([0.7, 0.2, 0.1]), np.array([0.4, 0.35, 0.25])]
    several = [asked("q", tuple("abc"), right, 1) for right in ((0, 1), (0,), (0, 1))]
    threshold = fit_threshold(scores, several)
    assert 0.25 < threshold < 0.35
    assert metrics(choose(scores, several, threshold), several)["exact_match"] == 1.0
    assert fit_threshold(scores, [asked("q", tuple("abc"))] * 3) == np.inf
    random = np.random.default_rng(1)
    many = [asked("q", tuple("abcd"), tuple(np.flatnonzero(random.random(4) < 0.5)) or (0,), 1) for _ in range(40)]
    scores = [random.random(4).round(1) for _ in many]  # with equal ones
    found = metrics(choose(scores, many, fit_threshold(scores, many)), many)["exact_match"]
    assert found == max(
        metrics(choose(scores, many, limit), many)["exact_match"] for limit in np.arange(-0.05, 1.1, 0.1)
    )


def test_baselines():
    train = [asked("is it?", ("yes", "no"), (1,)), asked("was it?", ("yes", "no"), (1,)), asked("a?", ("x", "y"), (0,))]
    new = [asked("is it?", ("no", "yes"), (0,)), asked("a cold nose?", ("a cold nose", "fever at night"), (0,))]
    assert baselines.chance(new) == 0.5
    best = {name: [int(values.argmax()) for values in score(train, new)] for name, score in baselines.BASELINES.items()}
    assert best["majority"] == [0, 1]  # by its text; a new text by its place
    assert best["longest choice"] == [1, 1]
    train = [*train, asked("cold nose", ("fever", "night"), (0,))]
    assert [int(values.argmax()) for values in baselines.tf_idf(train, new)][1] == 0


SERIES = {
    "context": "the cause is x.",
    "questions": [
        {"question": "what is x?", "options": ["the cause", "y"], "correct": 0},
        {"question": "what helps?", "options": ["x", "y", "z"], "correct": [1, 2]},
        {"question": "and then?", "options": ["x", "z"], "correct": 1},
    ],
}


@pytest.fixture(scope="module")
def prepared_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("choices")
    lines = [json.dumps(SERIES)] + [
        json.dumps({"question": f"what is {i}?", "choices": ["x", "y"], "answer": i % 2}) for i in range(8)
    ]
    (folder / "train.jsonl").write_text("\n".join(lines))
    (folder / "dev.jsonl").write_text(json.dumps(SERIES | {"context": "the cause is y."}))
    settings = PrepareSettings((str(folder / "train.jsonl"),), dev_inputs=(str(folder / "dev.jsonl"),), dev_share=0.0)
    prepare(settings, str(folder / "out"), num_workers=0, reader=CHOICE_ROWS)
    return str(folder / "out")


def test_series_that_begin_alike_are_apart(tmp_path):
    questions_of = [{"question": text, "options": ["x", "y"], "correct": 0} for text in ("a?", "b?", "c?")]
    series = [{"context": "c", "questions": [questions_of[0], questions_of[i]]} for i in (1, 2)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, series)))
    settings = PrepareSettings((str(tmp_path / "a.jsonl"),), dev_share=0.0)
    prepare(settings, str(tmp_path / "out"), num_workers=0, reader=CHOICE_ROWS)
    found = questions.read(PreparedFolder(str(tmp_path / "out"), rows.CHOICES), "train")
    earlier = {question.row.question: question.earlier for question in found}
    assert earlier["b?"] == earlier["c?"] == (("a?", "x"),)


def test_equal_questions_with_other_choices_are_series_of_their_own(tmp_path):
    def series(*choices):
        parts = [{"question": text, "options": list(choices), "correct": 0} for text in ("a?", "b?")]
        return {"context": "c", "questions": parts}

    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, (series("x", "y"), series("z", "y")))))
    settings = PrepareSettings((str(tmp_path / "a.jsonl"),), dev_share=0.0)
    prepare(settings, str(tmp_path / "out"), num_workers=0, reader=CHOICE_ROWS)
    found = questions.read(PreparedFolder(str(tmp_path / "out"), rows.CHOICES), "train")
    assert [(question.row.choices[0], question.earlier) for question in found if question.row.step] == [
        ("x", (("a?", "x"),)),
        ("z", (("a?", "z"),)),
    ]


def test_later_questions_of_a_series_see_the_answers_of_earlier_ones(prepared_dir, generator):
    _, second, third = questions.read(PreparedFolder(prepared_dir, rows.CHOICES), "dev")
    assert third.earlier == (("what is x?", "the cause"), ("what helps?", "y; z"))
    assert second.rest() == "Question: what is x?\nAnswer: the cause\n\nQuestion: what helps?\nAnswer:"
    other = Asked(second.row, (("what is x?", "y"),))
    one, two = (Likelihood(generator).sums([question])[0] for question in (second, other))
    assert np.abs(one - two).max() > 1e-3


@pytest.fixture(scope="module")
def model_dir(generator, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("model") / "gpt2")
    generator.save(folder)
    return folder


def test_evaluate(prepared_dir, model_dir, capsys):
    prepared = PreparedFolder(prepared_dir, rows.CHOICES)
    chooser = choices.Chooser(model_dir)
    result = choices.evaluate(chooser, prepared, "dev", 10, rotations=True)
    systems = result["systems"]
    own = [f"{name}, own earlier answers" for name in NORMALIZATIONS]
    assert list(systems) == [*baselines.BASELINES, *NORMALIZATIONS, *own]
    assert set(systems["acc"]) >= {"accuracy", "exact_match_several", "hamming", "ece"}
    assert {name: group["questions"] for name, group in result["kinds"].items()} == {
        "later in a series, one answer": 1,
        "later in a series, several answers": 1,
        "one answer": 1,
    }
    assert result["order_bias"]["acc_norm"]["largest_difference"] < 1e-5
    choices.show(result)
    low, high = systems["acc"]["hamming_interval"]
    shown = capsys.readouterr().err
    assert f"{systems['acc']['hamming']:.3f} [{low:.3f}, {high:.3f}]" in shown
    assert "chance" in shown
    assert "choices rotated" in shown
    alone = choices.evaluate(chooser, prepared, "dev", 10, own_answers=False)["systems"]
    assert list(alone) == [*baselines.BASELINES, *NORMALIZATIONS]
    assert alone["acc"] == systems["acc"]
    with pytest.raises(ValueError, match="no question in test"):
        choices.evaluate(None, prepared, "test", 10)
