"""Evaluation of replies: topics in texts, weighted intervals, scores of replies, and the report."""

import csv
import functools
import json
import math
import types

import numpy as np
import pytest
from absl import flags

from data_pipeline.corpora.dialogues import DIALOGUES
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.rows import DIALOGUE, Dialogue
from data_pipeline.token_rows.dialogue_rows import DialogueRows
from docproduct import index
from docproduct.answering import Answer, Answerer
from docproduct.chatting import Chat, Reply, ReplySettings
from docproduct.evaluate import __main__ as evaluate_command
from docproduct.evaluate import chat, chat_command, chat_report
from docproduct.evaluate.bootstrap import BootstrapSettings, resampled_means
from docproduct.evaluate.chat import ChatEvaluation, Scoring, Values
from docproduct.evaluate.chat_report import System
from docproduct.evaluate.topics import Topics
from docproduct.generation.session import GenerationSession
from docproduct.systems.chat.dev import ReplyEvaluation
from tests.talkers import chat_model

FEW = BootstrapSettings(resamples=1_000)
TOPICS = Topics(["Gout", "gout ", "Pregnancy", "Ectopic pregnancy", "Reflux (GERD)", "Otitis (ear)", "Otitis", ""])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("It may be GOUT, or reflux; gout.", ["gout", "reflux (gerd)"]),
        ("An ectopic\n pregnancy.", ["ectopic pregnancy"]),
        ("An ectopic pregnancy ends the pregnancy.", ["ectopic pregnancy", "pregnancy"]),
        ("Reflux (GERD) and otitis (ear)", ["reflux (gerd)", "otitis (ear)"]),
        ("otitis", ["otitis"]),  # a name of its own, not that of the other without its brackets
        ("A gouty toe, pregnancies", []),
        ("", []),
    ],
)
def test_topics_are_whole_names(text, named):
    assert TOPICS.named(text) == named


def test_topics_are_needed():
    with pytest.raises(ValueError, match="The index has no topics. Expected one that was built with --rows=facts"):
        Topics(["", " "])


def test_weights_count_in_every_sample():
    # Of two queries, the samples (a, a), (a, b), (b, a), (b, b) are equally likely. With the values 0 and 1 and the
    # weights 3 and 1, their means are 0, 1/4, 1/4, 1. With the weights 1 and 0, they are 0, 0, 0, and none.
    drawn = resampled_means(np.array([[0.0, 1.0]] * 2), FEW, np.array([[3.0, 1.0], [1.0, 0.0]]))
    assert set(drawn[:, 0]) == {0.0, 0.25, 1.0}
    assert np.mean(drawn[:, 0] == 0.25) == pytest.approx(0.5, abs=0.06)
    np.testing.assert_array_equal(np.isnan(drawn[:, 1]), drawn[:, 0] == 1.0)  # paired: the same queries


def values(nats, named, supported):
    """Returns scores of two dialogues; the disease of the first is known, 3 and 1 tokens are in their replies."""
    ones = np.ones(2)
    of = dict.fromkeys(chat.METRICS, ones) | {"perplexity": np.array(nats), "named": np.array(named)}
    weights = dict.fromkeys(chat.METRICS, ones) | {"perplexity": np.array([3.0, 1.0]), "named": np.array([1.0, 0.0])}
    return Values(of, weights | {"supported": np.array(supported)}, [])


COUNTS = {"dialogues": 2, "answerable": 1, "known": 1, "known_in_sources": 1, "known_in_question": 0}


def test_a_report_compares_with_the_model_alone_and_with_the_untuned():
    log = math.log
    scored = {
        System("untuned", False): values([log(2), log(8)], [0.0, 1.0], [0.0, 0.0]),
        System("untuned", True): values([log(4), log(4)], [1.0, 0.0], [2.0, 0.0]),
        System("tuned", True): values([log(2), log(2)], [1.0, 0.0], [0.0, 1.0]),
    }
    report = chat_report.compare(scored, COUNTS, FEW)
    alone, grounded, tuned = (system["metrics"] for system in report["systems"])
    # (3 log 2 + log 8) / 4 = log 2 * 6 / 4; 2 ** 1.5
    assert alone["perplexity"]["value"] == pytest.approx(2**1.5)
    assert (alone["perplexity"]["low"], alone["perplexity"]["high"]) == pytest.approx((2, 8))
    assert (alone["named"]["value"], grounded["named"]["value"]) == (0, 1)  # the second dialogue does not count
    assert "supported" not in alone  # nothing was checkable
    assert (grounded["supported"]["value"], tuned["supported"]["value"]) == (1, 1)
    first, second = report["differences"]
    assert (first["of"], first["from"]) == ("untuned, grounded", "untuned, alone")
    assert (second["of"], second["from"]) == ("tuned, grounded", "untuned, grounded")
    assert first["metrics"]["perplexity"]["value"] == pytest.approx(4 - 2**1.5)
    assert first["metrics"]["named"] == {"value": 1, "low": 1, "high": 1, "differs": True}
    assert (second["metrics"]["perplexity"]["value"], second["metrics"]["perplexity"]["differs"]) == (
        pytest.approx(-2),
        True,
    )
    table = chat_report.markdown(report)
    assert "| untuned, alone | 2.83 [2.00, 8.00] | 1.000 [1.000, 1.000] |" in table
    assert "The disease of 1 is known" in table
    assert "not BERTScore" in table
    assert "+1.000\\* [+1.000, +1.000]" in table


@pytest.fixture(scope="module")
def work(vocab_file, tiny_retriever, tmp_path_factory):
    """Folders: an index of three diseases, dialogues, and a chat model."""
    folder = tmp_path_factory.mktemp("evaluate_chat")
    facts = [(f"what is a{i}?", f"the x {'z ' * i}.", f"a{i}") for i in range(3)]
    with open(folder / "facts.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("question", "answer", "focus"), *facts])
    prepare(
        PrepareSettings((str(folder / "facts.csv"),), vocab_file, dev_share=0.0), str(folder / "facts"), num_workers=0
    )
    retriever = tiny_retriever[0]
    index.build(retriever, PreparedFolder(str(folder / "facts")), str(folder / "index"))
    replies = ["You have a1.", "the x helps.", "a1 and a2 help.", "the z a2."]
    lines = [
        {"instruction": "Be kind.", "input": f"what is {'abcd'[i]}?", "output": text} for i, text in enumerate(replies)
    ]
    (folder / "dev.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "train.jsonl").write_text(json.dumps(lines[0] | {"input": "the cause?"}))
    inputs = {"inputs": (str(folder / "train.jsonl"),), "dev_inputs": (str(folder / "dev.jsonl"),), "dev_share": 0.0}
    prepare(PrepareSettings(**inputs, num_shards=1), str(folder / "doctor"), num_workers=0, reader=DIALOGUES)
    model = chat_model()
    model.save(str(folder / "base"))
    retriever.save_config(str(folder), {})
    retriever.save_weights(str(folder))
    return types.SimpleNamespace(folder=folder, model=model, retriever=retriever, dialogues=str(folder / "doctor"))


@pytest.fixture(scope="module")
def scoring(work):
    searched = index.Index(str(work.folder / "index"), work.retriever)
    answerer = Answerer(work.retriever, searched, GenerationSession.of(work.model), threshold=-1.0)
    topics, settings = Topics(searched.topics()), ChatEvaluation(work.dialogues, max_tokens=6)
    return Scoring(answerer, chat.read(settings, topics), topics, settings)


def test_the_disease_is_known_if_the_reference_names_exactly_one(scoring, work):
    asked = chat.read(ChatEvaluation(work.dialogues), TOPICS_OF_INDEX)
    assert {one.reference: one.disease for one in asked} == {
        "You have a1.": "a1",
        "the x helps.": "",
        "a1 and a2 help.": "",
        "the z a2.": "a2",
    }
    assert all(one.conversation.system == "Be kind." for one in asked)
    assert [one.disease for one in chat.read(ChatEvaluation(work.dialogues, only_known=True), TOPICS_OF_INDEX)] == [
        one.disease for one in asked if one.disease
    ]
    assert len(chat.read(ChatEvaluation(work.dialogues, num_dialogues=3), TOPICS_OF_INDEX)) == 3
    with pytest.raises(ValueError, match="no dev dialogues whose last reply names exactly one topic of the index"):
        chat.read(ChatEvaluation(work.dialogues, only_known=True), TOPICS)
    # All three answers of the index are shown, so that every known disease is a source's topic.
    expected = {"dialogues": 4, "answerable": 4, "known": 2, "known_in_sources": 2, "known_in_question": 0}
    assert scoring.counts() == expected


TOPICS_OF_INDEX = Topics(["a0", "a1", "a2"])


def test_perplexity_is_that_of_training_on_dialogues(scoring, work):
    scored = scoring.score(GenerationSession.of(work.model), grounded=False)
    maker, rows = DialogueRows(work.model.tokenizer, 400), []
    for row in PreparedFolder(work.dialogues, DIALOGUE).table(("turns", "roles", "system"), "dev").to_pylist():
        rows += maker.rows(Dialogue(tuple(row["turns"]), tuple(row["roles"]), row["system"]), "here")
    expected = ReplyEvaluation(work.model, rows)()["perplexity"]
    nats, tokens = scored.values["perplexity"], scored.weights["perplexity"]
    assert math.exp(nats @ tokens / tokens.sum()) == pytest.approx(expected, rel=1e-4)
    assert sorted(tokens) == sorted(row.learned.sum() for row in rows)


@pytest.mark.parametrize("grounded", [False, True])
def test_replies_are_those_of_a_conversation(grounded, scoring, work):
    scored = scoring.score(GenerationSession.of(work.model), grounded)
    answerer = scoring._answerer
    settings = ReplySettings(grounded=grounded, sampling=answerer.sampling(max_tokens=6))
    direct = [Chat(answerer).reply(one.conversation, settings).content for one in scoring._dialogues]
    assert [reply.content for reply in scored.replies] == direct


def test_replies_are_scored(scoring, work, monkeypatch):
    texts = {"You have a1.": "You have a2 or a1.", "the x helps.": "a0 helps, the x z z.", "the z a2.": "the z a2."}

    def written(generator, drafts):
        del generator, drafts
        empty = Answer("q", "", (), False, None, 0, {})
        return [Reply(texts.get(one.reference, one.reference), empty) for one in scoring._dialogues]

    monkeypatch.setattr(chat, "written", written)
    scored = scoring.score(GenerationSession.of(work.model), grounded=False)
    place = {one.reference: i for i, one in enumerate(scoring._dialogues)}

    def of(metric, reference):
        return scored.values[metric][place[reference]], scored.weights[metric][place[reference]]

    assert (of("named", "You have a1."), of("named first", "You have a1.")) == ((1, 1), (0, 1))
    assert (of("named", "the z a2."), of("named first", "the z a2.")) == ((1, 1), (1, 1))
    assert of("named", "a1 and a2 help.")[1] == 0
    assert (of("diseases", "You have a1.")[0], of("words", "You have a1.")[0]) == (2, 5)
    # "you have a1" has 3 words and "you have a2 or a1" 5, of which 3 are common: 2 * 3 / 8
    assert of("ROUGE-L", "You have a1.")[0] == pytest.approx(0.75)
    assert of("similarity", "the z a2.")[0] == pytest.approx(1, abs=1e-5)
    assert of("similarity", "You have a1.")[0] < 1
    # The sources say "the x z z", of a2.
    supported, num_checked = of("supported", "the z a2.")
    assert (supported, num_checked) == (1, 1)


def test_a_model_that_is_not_asked_has_no_perplexity(work):
    searched = index.Index(str(work.folder / "index"), work.retriever)
    answerer = Answerer(work.retriever, searched, GenerationSession.of(work.model), threshold=2.0)
    settings = ChatEvaluation(work.dialogues, num_dialogues=2, max_tokens=3)
    scoring = Scoring(answerer, chat.read(settings, TOPICS_OF_INDEX), TOPICS_OF_INDEX, settings)
    assert scoring.counts()["answerable"] == 0
    scored = scoring.score(answerer.generator, grounded=True)
    assert scored.weights["perplexity"].tolist() == [0, 0]
    assert all(reply.content.startswith("No stored answer is close enough") for reply in scored.replies)
    assert scoring.score(answerer.generator, grounded=True, from_memory=True).weights["perplexity"].min() > 0


@pytest.fixture
def command():
    """Returns a function that runs the command with flags."""

    def run(**given):
        values = flags.FlagValues()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(flags, "FLAGS", values)
            for define in [name for name in dir(flags) if name.startswith("DEFINE_")]:
                patch.setattr(flags, define, functools.partial(getattr(flags, define), flag_values=values))
            evaluate_command._define_flags()
            values(["evaluate", *(f"--{name}={value}" for name, value in given.items())])
            return chat_command.run(values)

    return run


def test_the_command_writes_a_report(work, command, tmp_path, capsys):
    given = {
        **{"prepared_dir": work.dialogues, "model_dir": work.folder, "index_dir": work.folder / "index"},
        **{"base_dir": work.folder / "base", "generator_dir": work.folder / "base", "threshold": -1},
        **{"num_dialogues": 2, "max_tokens": 3, "resamples": 1_000, "output_dir": tmp_path / "out"},
    }
    report = command(**given)
    assert [system["model"] for system in report["systems"]] == ["untuned", "untuned", "tuned", "tuned"]
    # The same model twice: nothing differs.
    same = [one["metrics"] for one in report["differences"] if one["from"].startswith("untuned, g")]
    assert same
    assert all(value["value"] == pytest.approx(0, abs=1e-6) for metrics in same for value in metrics.values())
    assert json.loads((tmp_path / "out/report.json").read_text())["counts"] == report["counts"]
    assert (tmp_path / "out/report.md").read_text() in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "out/replies.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert list(lines[0]["replies"]) == ["untuned, alone", "untuned, grounded", "tuned, alone", "tuned, grounded"]
    with pytest.raises(FileExistsError):
        command(**given)
    with pytest.raises(ValueError, match=r"Missing: --index_dir, --base_dir. Replies are evaluated with"):
        command(prepared_dir="p", model_dir="m")
