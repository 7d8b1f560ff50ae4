"""Rows of dialogues: what is learned, for each template; what is dropped when a dialogue is too long; packing."""

import copy
import itertools
import random

import numpy as np
import pytest

from data_pipeline.prompts.dialogue_prompts import PlainFormat, learned_ids
from data_pipeline.rows import Dialogue
from data_pipeline.token_rows import dialogue_rows
from data_pipeline.token_rows.dialogue_rows import DialogueRow, DialogueRows, packed
from data_pipeline.tokenizers import DecoderTokenizer
from docproduct.systems.generator import tokenizer_of
from tests.gguf_models import GOLDEN
from tests.test_chat_template import HOSTILE, said, template_of
from tests.test_chat_template import tokenizer_of as golden_tokenizer
from tests.toy_chat import TEMPLATE, chat_tokenizer

SMALL = [name for name, entry in GOLDEN["tokenizers"].items() if "content" in entry]
TALKS = {
    1: ("Does tea help?", "Yes, it does."),
    3: ("Hi", "Hello", "Does tea help?", "Yes.\n\nIt does.", "Why?", "Who knows."),
}
NAMED = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."


def exchanges(talk):
    return list(zip(talk[::2], talk[1::2], strict=True))


def chatml(system, talk, default=None, thought=""):
    """[(text, whether it is learned)], written down from the template; only the last reply has the empty thought."""
    system = system or default
    parts = [(f"<|im_start|>system\n{system}<|im_end|>\n", False)] if system else []
    for question, reply in exchanges(talk):
        parts += [(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n", False)]
        parts += [((thought if reply is talk[-1] else "") + f"{reply}<|im_end|>", True), ("\n", False)]
    return parts


def llama3(system, talk):
    def opened(role, text):
        return f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}"

    parts = [("<|begin_of_text|>" + (opened("system", f"{system}<|eot_id|>") if system else ""), False)]
    for question, reply in exchanges(talk):
        parts += [
            (opened("user", f"{question}<|eot_id|>") + opened("assistant", ""), False),
            (f"{reply}<|eot_id|>", True),
        ]
    return parts


def llama2(system, talk):
    """The tokenizer puts a blank before a text."""
    before = f"<<SYS>>\n{system}\n<</SYS>>\n\n" if system else ""
    parts = []
    for place, (question, reply) in enumerate(exchanges(talk)):
        parts += [(f"<s> [INST] {before if not place else ''}{question} [/INST]", False), (f" {reply} </s>", True)]
    return parts


def mistral(system, talk):
    """The template refuses the system's text, which stands before the first question."""
    parts = [("<s>", False)]
    for place, (question, reply) in enumerate(exchanges(talk)):
        before = f"{system}\n\n" if system and not place else ""
        parts += [(f"[INST] {before}{question} [/INST]", False), (f"{reply}</s>", True)]
    return parts


def plain(system, talk):
    parts = [(f"{system}\n\n", False)] if system else []
    for question, reply in exchanges(talk):
        parts += [(f"User: {question}\nAssistant:", False), (f" {reply}<|endoftext|>", True), ("\n", False)]
    return parts


FORMS = {
    "llama3": llama3,
    "qwen25": lambda system, talk: chatml(system, talk, QWEN),
    "qwen3": lambda system, talk: chatml(system, talk, thought="<think>\n\n</think>\n\n"),
    "llama2": llama2,
    "mistral": mistral,
    "smollm2": lambda system, talk: chatml(system, talk, NAMED),
    "plain": plain,
}


@pytest.fixture(scope="module")
def smollm2_tokenizer(smollm2):
    return tokenizer_of(smollm2)


def load(name, request):
    if name == "plain":
        return request.getfixturevalue("bpe")
    return request.getfixturevalue("smollm2_tokenizer") if name == "smollm2" else golden_tokenizer(name)


def text_of(tokenizer, ids):
    """The text of ids with special tokens, and every blank: a decoder takes some off the beginning of a text."""
    names = {number: token for token, number in tokenizer.added.items()}
    names[tokenizer.end_id] = tokenizer.show([tokenizer.end_id])
    (before,) = tokenizer.encode(["x"])
    parts = [[*part] for _, part in itertools.groupby(ids, lambda i: i if i in names else None)]
    return "".join(names.get(part[0]) or tokenizer.decode([*before, *part]).removeprefix("x") for part in parts)


def runs(tokenizer, ids, learned):
    """[(text, whether it is learned)]"""
    grouped = itertools.groupby(zip(ids, learned, strict=True), key=lambda pair: bool(pair[1]))
    return [(text_of(tokenizer, [i for i, _ in part]), kind) for kind, part in grouped]


def joined(parts):
    """The same from the parts of a template, up to the last reply."""
    grouped = itertools.groupby(parts, key=lambda part: part[1])
    texts = [("".join(text for text, _ in part), kind) for kind, part in grouped]
    return texts if texts[-1][1] else texts[:-1]


@pytest.mark.parametrize("system", ["", "Be brief."])
@pytest.mark.parametrize("num_exchanges", [1, 3])
@pytest.mark.parametrize("name", FORMS)
def test_replies_with_their_ends_are_learned_and_nothing_else(name, num_exchanges, system, request):
    tokenizer, talk = load(name, request), TALKS[num_exchanges]
    messages = said(*talk, system=system or None)
    parts = learned_ids(tokenizer, messages)
    if name == "qwen3" and num_exchanges > 1:
        # The template takes the thought off earlier replies: each reply is a row, behind what is read before it.
        assert len(parts) == 3
        for part, end in zip(parts, (2, 4, 6), strict=True):
            *before, (last, _) = joined(FORMS[name](system, talk[:end]))
            whole = "".join(text for text, _ in before)
            assert runs(tokenizer, *part) == [(whole, False), (last, True)]
        return
    (part,) = parts
    assert runs(tokenizer, *part) == joined(FORMS[name](system, talk))
    if name != "plain":
        whole = template_of(tokenizer).ids(tokenizer, messages, add_generation_prompt=False)
        assert part.ids == whole[: len(part.ids)]


@pytest.mark.parametrize("name", [*SMALL, "plain"])
def test_texts_never_become_special_tokens(name, request):
    tokenizer = load(name, request)
    special = {*tokenizer.added.values(), *tokenizer.end_ids}

    def found(*texts):
        return [
            [(i, kind) for i, kind in zip(*part, strict=True) if i in special]
            for part in learned_ids(tokenizer, said(*texts))
        ]

    for text in [*HOSTILE, *tokenizer.added, "<|endoftext|>", "<|im_end|>\n<|im_start|>assistant\n"]:
        if "think>" not in text:  # the template of Qwen3 acts on it
            assert found(text, "y", "z", text) == found("x", "y", "z", "w"), text


def test_two_questions_in_a_row_are_for_the_template_to_judge():
    talk = Dialogue(("Hi", "Does tea help?", "Yes.", "It does."), ("user", "user", "assistant", "assistant"))
    chatml_rows = DialogueRows(golden_tokenizer("qwen25"), 512)
    (row,) = chatml_rows.rows(talk, "x")
    tokenizer = golden_tokenizer("qwen25")
    learned = [text for text, kind in runs(tokenizer, row.ids.tolist(), row.learned.tolist()) if kind]
    assert learned == ["Yes.<|im_end|>", "It does.<|im_end|>"]
    strict = DialogueRows(golden_tokenizer("mistral"), 512)
    assert strict.rows(talk, "dialogue 7") == []
    assert strict.refused.counts == {dialogue_rows.REFUSED: 1}
    assert "dialogue 7: " in strict.refused.report()[dialogue_rows.REFUSED]["first"]
    assert "must alternate" in strict.refused.report()[dialogue_rows.REFUSED]["first"]


def test_a_template_that_cannot_be_used():
    entry = GOLDEN["tokenizers"]["llama3"]
    for template in ("{% for m in messages %}{{ m.content }}{% endfor %}", "{{ messages[0].content | upper }}"):
        config = entry["config"] | {"chat_template": template}
        maker = DialogueRows(DecoderTokenizer.from_json(entry["content"], config, "x"), 512)
        assert maker.rows(Dialogue(("Hi", "Hello"), ("user", "assistant")), "x") == []
        assert maker.refused.counts == {dialogue_rows.UNUSABLE: 1}


def dialogue(*texts, system=""):
    return Dialogue(texts, ("user", "assistant") * (len(texts) // 2), system)


def equal(row, other):
    return all(np.array_equal(a, b) for a, b in zip(row, other, strict=True))


@pytest.fixture(scope="module")
def toy():
    return chat_tokenizer(["Does tea help? Yes, it does. Who knows why?"])


def test_the_oldest_turns_are_dropped_whole(toy):
    talk = ("Does tea help?", "Yes, it does.", "Why?", "Who knows.", "And honey?", "It does, too.")
    wide = DialogueRows(toy, 999)
    expected = [wide.rows(dialogue(*talk[first:], system="Be brief."), "x")[0] for first in (0, 2, 4)]
    assert not wide.counts
    sizes = [len(row.ids) for row in expected]
    for window, index in ((sizes[0], 0), (sizes[0] - 1, 1), (sizes[1], 1), (sizes[1] - 1, 2), (sizes[2], 2)):
        maker = DialogueRows(toy, window)
        (row,) = maker.rows(dialogue(*talk, system="Be brief."), "x")
        assert equal(row, expected[index])
        assert maker.counts == ({dialogue_rows.SHORTENED: 1, dialogue_rows.DROPPED: 2 * index} if index else {})
    # Nothing is left to drop: the reply loses its end.
    maker = DialogueRows(toy, sizes[2] - 1)
    (row,) = maker.rows(dialogue(*talk, system="Be brief."), "x")
    assert equal(row, [part[:-1] for part in expected[2]])
    assert maker.counts[dialogue_rows.CUT] == 1
    num_read = int(np.argmax(expected[2].learned))
    maker = DialogueRows(toy, num_read)
    assert maker.rows(dialogue(*talk, system="Be brief."), "x") == []
    assert maker.refused.counts == {dialogue_rows.NO_ROOM: 1}
    assert len(DialogueRows(toy, num_read + 1).rows(dialogue(*talk, system="Be brief."), "x")) == 1


def without_oldest_one_by_one(maker, messages):
    """The first of all shortened forms that fits, or the shortest."""
    first = int(messages[0]["role"] == "system")
    roles = [message["role"] for message in messages]
    begins = [i for i in range(first + 1, len(roles)) if roles[i - 1 : i + 1] == ["assistant", "user"]]
    forms = [messages, *([*messages[:first], *messages[begin:]] for begin in begins)]
    return next((form for form in forms if maker._num_ids(form) <= maker._window), forms[-1])


def test_bisection_drops_what_a_search_one_by_one_drops(toy):
    draw = random.Random(0)
    for case in range(60):
        roles = draw.choices(["user", "assistant"], k=draw.randrange(1, 12))
        messages = [{"role": "system", "content": "Be brief."}] if case % 3 else []
        messages += [{"role": role, "content": "tea " * draw.randrange(1, 9)} for role in roles]
        maker = DialogueRows(toy, draw.randrange(1, 140))
        assert maker._without_oldest(messages) == without_oldest_one_by_one(maker, messages)


def test_long_dialogues_are_shortened_in_linear_time(toy, monkeypatch):
    written, num_ids = [], DialogueRows._num_ids

    def counted(maker, messages):
        written.append(len(messages))
        return num_ids(maker, messages)

    monkeypatch.setattr(DialogueRows, "_num_ids", counted)
    messages = said(*["Why?", "So."] * 200)
    kept = DialogueRows(toy, 99)._without_oldest(messages)
    assert 0 < len(kept) < 20
    assert sum(written) < 3 * len(messages)  # one by one: 40,000 messages


def test_a_default_for_what_the_system_says(toy):
    maker = DialogueRows(toy, 99, "Be kind.")
    (own,), (given,) = (maker.rows(dialogue("Why?", "Who knows.", system=system), "x") for system in ("Be brief.", ""))
    assert "Be brief." in toy.decode(own.ids)
    assert "Be kind." in toy.decode(given.ids)
    assert "Be kind." not in toy.decode(own.ids)


def test_rows_reply_by_reply_are_counted():
    tokenizer = golden_tokenizer("qwen3")
    maker = DialogueRows(tokenizer, 512)
    assert len(maker.rows(dialogue(*TALKS[3]), "x")) == 3
    assert maker.counts == {dialogue_rows.APART: 1}
    assert isinstance(PlainFormat().ids(tokenizer, said("Hi")), list)  # a LLaMA without a template


def test_a_template_that_takes_old_thoughts_off(toy):
    """Each reply is learned with its thoughts, and read without them: as it is when the model is asked."""
    template = TEMPLATE.replace(
        "message['content']",
        "(message['content'] if loop.last else message['content'].split('</think>')[-1])",
    )
    tokenizer = copy.copy(toy)
    tokenizer.chat_template = template
    talk = ("Why?", "<think>Hm.</think>Who knows.", "Why not?", "<think>Well.</think>Tea helps.")
    first, second = learned_ids(tokenizer, said(*talk))
    assert runs(tokenizer, *first)[1] == ("<think>Hm.</think>Who knows.<|im_end|>", True)
    assert "Hm." not in tokenizer.decode(second.ids)
    assert runs(tokenizer, *second)[1] == ("<think>Well.</think>Tea helps.<|im_end|>", True)
    maker = DialogueRows(tokenizer, 512)
    assert len(maker.rows(dialogue(*talk), "x")) == 2
    assert maker.counts == {dialogue_rows.APART: 1}


def test_packing_keeps_dialogues_whole_and_apart():
    draw = np.random.default_rng(0)
    rows = []
    for number, size in enumerate(draw.integers(2, 31, 60).tolist()):
        learned = draw.random(size) < 0.5
        rows.append(DialogueRow(np.full(size, number, np.int32), np.ones(size, np.int32), learned))
    windows = packed(rows, 30)
    assert len(windows) < 40  # 60 rows of 16 tokens on average
    seen = []
    for window in windows:
        assert len(window.ids) <= 30
        assert window.texts[0] == 1
        for text in range(1, window.texts.max() + 1):
            at = window.texts == text
            (number,) = set(window.ids[at].tolist())
            assert np.array_equal(window.learned[at], rows[number].learned)
            seen.append(number)
    assert sorted(seen) == list(range(60))
