"""The reader of dialogues: published layouts, and what is no dialogue."""

import csv
import dataclasses
import json

import pytest

from data_pipeline import cleaning, rows
from data_pipeline.corpora import Columns, Refusals
from data_pipeline.corpora import dialogues as reader
from data_pipeline.corpora.dialogues import DIALOGUES, read_dialogues
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare

QUESTION, REPLY, NEXT, LAST = "What eases a cough?", "Honey.", "And in babies?", "No honey before the first birthday."
TALK = (QUESTION, REPLY, NEXT, LAST)
ROLES = ("user", "assistant") * 2


def read(path, *objects, columns=Columns()):
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in objects), encoding="utf-8")
    refusals = Refusals()
    return [row for _, row in read_dialogues(str(path), columns, refusals)], refusals


def messages(*roles, texts=TALK, names=("role", "content")):
    return [dict(zip(names, pair, strict=True)) for pair in zip(roles, texts, strict=False)]


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": messages("human", "gpt", "human", "gpt", names=("from", "value"))},  # ShareGPT
        {"messages": messages("user", "assistant", "user", "assistant")},
        {"prompt": "x", "messages": messages("User", "model", "human", "bot")},
        {"messages": [{"role": r, "content": [{"type": "text", "text": t}]} for r, t in zip(ROLES, TALK, strict=True)]},
        {"messages": json.dumps(messages(*ROLES))},  # as a table holds it
        {"description": "Re: cough", "utterances": [f"patient: {QUESTION}", f"doctor: {REPLY}", f"Patient: {NEXT}"]},
        {"Turn": 4, "Id": 1, "Dialogue": [f"病人：{QUESTION}", f"医生：{REPLY}", f"病人：{NEXT}", f"医生：{LAST}"]},
        {"turns": list(TALK)},
        {"instruction": NEXT, "input": "", "output": LAST, "history": [[QUESTION, REPLY]]},
    ],
)
def test_published_layouts(tmp_path, row):
    found, refusals = read(tmp_path / "a.jsonl", row)
    num_turns = 2 if "utterances" in row else 4  # the question at the end has no reply
    assert found == [rows.Dialogue(TALK[:num_turns], ROLES[:num_turns])]
    assert not refusals.counts
    assert list(refusals.noted) == [reader.UNANSWERED] * (num_turns == 2) + [reader.ALTERNATE] * ("turns" in row)


def test_a_system_message_is_apart(tmp_path):
    own = {"messages": messages("system", "user", "assistant", texts=("Be brief.", QUESTION, REPLY)), "source": "s"}
    column = {"conversations": messages("human", "gpt", names=("from", "value")), "system": "Be brief."}
    expected = rows.Dialogue(TALK[:2], ROLES[:2], "Be brief.")
    found, _ = read(tmp_path / "a.jsonl", own)
    assert found == [dataclasses.replace(expected, source="s")]
    found, _ = read(tmp_path / "b.jsonl", {"conversations": column["conversations"]}, column)
    assert found == [rows.Dialogue(TALK[:2], ROLES[:2]), expected]


def test_instruction_tables(tmp_path):
    """Alpaca: an instruction with its input is one question; a shared instruction is what the system says."""
    path = tmp_path / "a.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = [("instruction", "input", "output"), ("Translate.", "cough", "Husten"), ("Name a fruit.", "", "Plum")]
        csv.writer(file).writerows(table)
    refusals = Refusals()
    found = [row.turns for _, row in read_dialogues(str(path), Columns(), refusals)]
    assert found == [("Translate.\n\ncough", "Husten"), ("Name a fruit.", "Plum")]
    shared = {"instruction": "Answer as a doctor.", "output": REPLY}
    found, refusals = read(tmp_path / "b.jsonl", shared | {"input": QUESTION}, shared | {"input": NEXT}, shared)
    assert [(row.system, row.turns[0]) for row in found] == [
        ("Answer as a doctor.", QUESTION),
        ("Answer as a doctor.", NEXT),
        ("", "Answer as a doctor."),
    ]
    assert list(refusals.noted) == [reader.SAME_INSTRUCTION]
    found, _ = read(tmp_path / "c.jsonl", {"frage": QUESTION, "antwort": REPLY}, columns=Columns("frage", "antwort"))
    assert found == [rows.Dialogue(TALK[:2], ROLES[:2])]


def test_one_conversation_in_a_file(tmp_path):
    found, _ = read(tmp_path / "a.json", {"messages": messages(*ROLES)})
    assert found == [rows.Dialogue(TALK, ROLES)]
    lists = [f"患者：{QUESTION}", f"医生：{REPLY}"], [f"patient: {QUESTION}", f"doctor: {REPLY}"]
    for objects in (lists, [lists]):  # a list a line, and a list of lists
        found, _ = read(tmp_path / "b.json", *objects)
        assert found == [rows.Dialogue(TALK[:2], ROLES[:2])] * 2


ENGLISH = """id=1
https://forum.example/1

Description
A cough. Should I worry?

Dialogue
Patient:
What eases
a\rcough?
Doctor:
Honey.

id=1
https://forum.example/1

Dialogue
Doctor:
Welcome.
Patient:
And in babies?
Doctor: he said
Doctor:
No honey before the first birthday.

Diagnosis and suggestions
Patient:
not a part of it

id=2
no dialogue
"""


def test_text_files_of_meddialog(tmp_path):
    path = tmp_path / "english.txt"
    path.write_text(ENGLISH, encoding="utf-8", newline="")
    refusals = Refusals()
    found = list(read_dialogues(str(path), Columns(), refusals))
    assert [where for where, _ in found] == [f"{path} line 1 id 1", f"{path} line 14 id 1"]
    texts = [tuple(map(cleaning.clean_paragraphs, row.turns)) for _, row in found]
    assert texts == [("What eases\na\ncough?", "Honey."), ("And in babies?\nDoctor: he said", LAST)]
    assert refusals.counts == {reader.NO_REPLY: 1}


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_chinese_text_files(tmp_path, encoding):
    talk = "id=7\nhttp://x\n\nDoctor faculty\n某医院 呼吸内科\n\nDialogue\n"
    talk += "病人：\n夜里干咳一周，不发烧。\n医生：\n多喝水，观察三天。\n\n"
    (tmp_path / "a.txt").write_bytes((talk * 9).encode(encoding))
    found = [row for _, row in read_dialogues(str(tmp_path / "a.txt"), Columns(), Refusals())]
    assert [tuple(map(str.strip, row.turns)) for row in found] == [("夜里干咳一周，不发烧。", "多喝水，观察三天。")] * 9
    assert {row.focus for row in found} == {"呼吸内科"}


def test_a_doctor_who_speaks_first_answers_the_description(tmp_path):
    talk = "id=1\nhttp://x\n\nDescription\nA cough.\n\nDialogue\nDoctor:\nHoney.\nPatient:\nThanks.\n"
    (tmp_path / "a.txt").write_text(talk, encoding="utf-8")
    ((_, row),) = read_dialogues(str(tmp_path / "a.txt"), Columns(), Refusals())
    assert (row.turns, row.roles) == (("A cough.", "Honey."), ROLES[:2])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": messages("user", "jane.roe@mail.example")}, reader.UNKNOWN_ROLE),
        ({"messages": [{"content": "x"}]}, reader.UNKNOWN_ROLE),
        ({"messages": messages("user", "assistant", texts=(QUESTION, " \n"))}, reader.EMPTY),
        ({"messages": messages("user", "assistant", texts=(QUESTION, None))}, reader.NO_TEXT),
        ({"messages": messages("user", "system", "assistant")}, reader.LATE_SYSTEM),
        ({"messages": messages("user", "user")}, reader.NO_REPLY),
        ({"messages": messages("assistant", "user")}, reader.NO_REPLY),
        ({"messages": messages("system")}, reader.NO_REPLY),
        ({"messages": []}, reader.NO_TURNS),
        ({"messages": "Hello"}, reader.NO_TURNS),
        ({"messages": [QUESTION, f"doctor: {REPLY}"]}, reader.NO_SPEAKER),
        ({"messages": "[" * 99_999}, reader.NO_TURNS),
        ({"messages": [{"role": "user", "content": QUESTION}, REPLY]}, reader.NO_TEXT),
        ({"instruction": QUESTION, "output": ["a", "b"]}, reader.NO_TEXT),
        ({"instruction": QUESTION, "output": REPLY, "history": "x"}, reader.NO_TURNS),
    ],
)
def test_what_is_no_dialogue_is_counted(tmp_path, row, reason):
    found, refusals = read(tmp_path / "a.jsonl", row)
    assert not found
    assert refusals.counts == {reason: 1}


def test_replies_before_the_first_question_are_left_out(tmp_path):
    found, refusals = read(tmp_path / "a.jsonl", {"messages": messages("assistant", *ROLES, texts=("Hi.", *TALK))})
    assert found == [rows.Dialogue(TALK, ROLES)]
    assert refusals.noted == {reader.REPLY_FIRST: 1}


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        ({"foo": "x"}, Columns(), "has neither messages, .* or turns nor a column 'question'"),
        ({"question": "x"}, Columns(), "nor a column 'answer'. Columns found: question. Name .* --answer_column"),
        ({"qas": []}, Columns(), "holds SQuAD's questions of a paragraph. Expected one dialogue a row"),
        ({"messages": []}, Columns(label="x"), "--label_column is given. Expected it with --rows=triage"),
    ],
)
def test_files_without_dialogues(tmp_path, row, columns, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.jsonl", row, columns=columns)


def test_preparing_dialogues(tmp_path):
    """Dialogues that begin alike are in one split; paragraphs stay; what is refused is counted."""
    talks = [{"messages": messages(*ROLES, texts=(f"Question {i}?", REPLY, NEXT, f"Reply {i}."))} for i in range(40)]
    talks += [
        {"messages": messages(*ROLES[:2], texts=(f"question  {i}", "First.\n \n\n  Second.\nThird."))}
        for i in range(40)
    ]
    talks.append({"messages": messages("user", "assistant", texts=("Any allergies?", "None"))})  # None is a word here
    talks += [talks[0], {"messages": messages("user", "assistant", texts=("None", "\u200b"))}]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, talks)))
    settings = PrepareSettings((str(path),), dev_share=0.3)
    manifest = prepare(settings, str(tmp_path / "out"), num_workers=0, reader=DIALOGUES)
    assert {reason: entry["rows"] for reason, entry in manifest["refused"].items()} == {
        "empty turns": 1,
        "the same dialogue occurs before": 1,
    }
    table = (
        PreparedFolder(str(tmp_path / "out"), rows.DIALOGUE).table(["turns", "roles", "system", "split"]).to_pylist()
    )
    split_of = {row["turns"][0].lower().rstrip("?"): set() for row in table}
    for row in table:
        assert row["roles"] == list(ROLES[: len(row["turns"])])
        split_of[row["turns"][0].lower().rstrip("?")].add(row["split"])
    assert len(split_of) == 41
    assert all(len(found) == 1 for found in split_of.values())
    assert manifest["counts"]["dev"]["dialogues"] > 4
    assert {row["turns"][1] for row in table if len(row["turns"]) == 2} == {"First.\n\nSecond.\nThird.", "None"}
