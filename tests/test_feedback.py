"""Feedback of users: kept by the service, and turned into tables."""

import collections
import csv
import dataclasses
import errno
import json
import os
import types

import pytest

from docproduct import feedback
from docproduct.answering import Answerer, Query
from docproduct.search.changes import NotStoredError
from docproduct.web.feedback import FeedbackFile
from docproduct.web.reloading import Reloadable
from docproduct.web.server import create_app
from docproduct.web.settings import ServiceSettings
from tests.commands import run
from tests.serving import message, running, write_folders


@pytest.fixture(scope="module")
def folders(tiny_retriever, prepared, tmp_path_factory):
    """A service that answers stored questions only: no cosine is 2."""
    return write_folders(tiny_retriever[0], prepared, tmp_path_factory.mktemp("feedback") / "s", threshold=2.0)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("told") / "feedback.jsonl"


@pytest.fixture(scope="module")
def client(folders, path):
    with running(create_app(Reloadable(folders), ServiceSettings(feedback_file=str(path)))) as client:
        yield client


def answered(client, question):
    return client.post("/v1/answer", json={"question": question, "generate": False, "k": 2}).json()


def test_refused_questions_and_ratings_are_kept(client, path):
    assert client.get("/v1/info").json()["feedback"]
    stored = answered(client, "what is a3?")
    assert stored["answerable"]
    (first, *_) = stored["sources"]
    told = {"question": "what is a3?", "id": first["id"], "helpful": True}
    assert client.post("/v1/feedback", json=told).json() == {"status": "stored"}
    refused = answered(client, "why is the sky blue?")
    assert not refused["answerable"]
    rating, question = [json.loads(line) for line in path.read_text().splitlines()]
    assert rating.pop("time").endswith("+00:00")
    assert rating == {"kind": "rating", **told}
    ids = [source["id"] for source in refused["sources"]]
    assert (question["kind"], question["question"], list(map(str, question["ids"]))) == (
        "refused",
        "why is the sky blue?",
        ids,
    )


@pytest.mark.parametrize("body", [{}, {"question": "", "id": "3", "helpful": True}, {"question": "a", "id": "3"}])
def test_a_rating_without_its_parts_is_refused(client, body):
    assert client.post("/v1/feedback", json=body).status_code == 422


def test_a_rating_of_a_pair_that_the_index_does_not_hold_is_refused(client, path):
    before = path.read_bytes()
    for name in ("3", "faq/17"):
        response = client.post("/v1/feedback", json={"question": "a", "id": name, "helpful": True})
        assert "no pair with this id" in message(response, 422, "invalid_request")
    assert path.read_bytes() == before


def test_a_full_disk_is_told_for_a_rating_and_spoils_no_answer(client, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    pair_id = answered(client, "what is a3?")["sources"][0]["id"]
    monkeypatch.setattr("docproduct.web.feedback.os.write", full)
    response = client.post("/v1/feedback", json={"question": "a", "id": pair_id, "helpful": True})
    assert "could not be stored" in message(response, 507, "not_stored")
    assert not answered(client, "why is it blue?")["answerable"]


def test_a_line_that_is_half_written_is_taken_back(tmp_path, monkeypatch):
    path, write = tmp_path / "f.jsonl", os.write
    file = FeedbackFile(str(path))
    file.rating("a", "3", True)
    whole = path.read_bytes()
    monkeypatch.setattr("docproduct.web.feedback.os.write", lambda opened, line: write(opened, line[:10]))
    with pytest.raises(NotStoredError, match="f.jsonl cannot be written"):
        file.rating("b", "3", True)
    assert path.read_bytes() == whole
    monkeypatch.undo()
    file.rating("c", "3", True)
    file.close()
    assert len(feedback.read(str(path)).ratings) == 2


def test_any_text_is_read_back(tmp_path):
    path = tmp_path / "f.jsonl"
    file = FeedbackFile(str(path))
    file.rating("a\u2028b\x85c\rd\x0ce", "3", True)  # each ends a line for str.splitlines
    file.close()
    assert len(feedback.read(str(path)).ratings) == 1


def test_without_the_flag_nothing_is_kept(folders):
    with running(create_app(Reloadable(folders))) as client:
        assert not client.get("/v1/info").json()["feedback"]
        response = client.post("/v1/feedback", json={"question": "a", "id": "3", "helpful": True})
        assert "--feedback_file" in message(response, 404, "invalid_request")


def rating(question, pair_id, helpful):
    return {"kind": "rating", "question": question, "id": str(pair_id), "helpful": helpful}


@pytest.fixture(scope="module")
def told(folders, tmp_path_factory):
    """A file, and the pairs that it speaks of."""
    answerer = Answerer.load(folders)
    ids = answerer.index.pairs.column("pair_id").to_pylist()[:2]
    first, second = ({"id": pair_id, **answerer.index.texts(pair_id)} for pair_id in ids)
    lines = [
        rating("How come?", first["id"], True),
        rating("how come", first["id"], True),  # the same question
        rating("How come?", first["id"], False),
        rating("How come?", second["id"], False),
        rating(first["question"], first["id"], True),  # stored already
        rating("Who knows?", 12, True),  # no such pair
        {"kind": "refused", "question": "Where is it?", "ids": [12, second["id"]]},
        {"kind": "refused", "question": "When?", "ids": []},
        {"kind": "refused", "question": "when", "ids": [first["id"]]},
    ]
    path = tmp_path_factory.mktemp("told") / "f.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "rat')
    return path, first, second


def test_the_tables(told, folders, tmp_path, caplog):
    path, first, second = told
    output = tmp_path / "out"
    names = [f"--model_dir={folders.model_dir}", f"--index_dir={folders.index_dir}", f"--output_dir={output}"]
    done = run("docproduct.feedback", f"--feedback_file={path}", *names)
    assert done.returncode == 0, done.stderr
    counts = {"helpful": 1, "unhelpful": 1, "unanswered": 2}
    assert json.loads(done.stdout.splitlines()[-1]) == {"output_dir": str(output), **counts}
    assert "does not have their pairs (or not yet): 1." in caplog.text

    def rows(name):
        with open(output / f"{name}.csv", newline="") as file:
            return list(csv.reader(file))[1:]

    assert rows("helpful") == [["How come?", first["answer"], "feedback"]]
    assert rows("unhelpful") == [["How come?", second["question"], second["answer"]]]
    assert rows("unanswered") == [["When?", "2", first["question"]], ["Where is it?", "1", second["question"]]]
    again = run("docproduct.feedback", f"--feedback_file={path}", *names)
    assert again.stderr.endswith(f"error: {output} exists already. Give another folder.\n")


def test_passages_are_named_by_their_headings():
    # A passage has no question, so that its rows would name nothing.
    passage = {"question": "", "answer": "b", "title": "Guide", "section": "Use", "source": "a.md"}
    index = types.SimpleNamespace(questions=lambda: [], texts={7: passage}.get)
    told = feedback.Feedback({(1, 7): [1, 0]}, collections.Counter([2]), {2: [5, 7]}, {1: "How?", 2: "Why?"})
    tables = feedback.tables(told, types.SimpleNamespace(index=index))
    assert tables["unhelpful"][1:] == [("How?", "Guide, Use", "b")]
    assert tables["unanswered"][1:] == [("Why?", 1, "Guide, Use")]


def test_changes_are_the_questions_with_another_first_source(told, folders, tmp_path, monkeypatch):
    path, first, _ = told
    names = [f"--{new}{name}={getattr(folders, name)}" for new in ("", "new_") for name in ("model_dir", "index_dir")]
    done = run("docproduct.feedback", *names, f"--feedback_file={path}", f"--output_dir={tmp_path}/same")
    assert json.loads(done.stdout.splitlines()[-1]) == {"output_dir": f"{tmp_path}/same", "questions": 5, "changed": 0}
    questions = list(feedback.read(str(path)).questions.values())
    assert questions == ["How come?", first["question"], "Who knows?", "Where is it?", "When?"]
    before, after = Answerer.load(folders), Answerer.load(dataclasses.replace(folders, threshold=-1.0))
    changed = feedback.changes(questions, before, after)
    # A stored question is always answered; the others are refused before only.
    assert [row[:2] for row in changed] == [
        (question, "no answer") for question in questions if question != questions[1]
    ]
    nearest = after.retrieve([Query(question, k=1) for question in questions])
    assert changed[-1][2] == nearest[-1].hits[0].question


@pytest.mark.parametrize("line", ["no JSON", "[]", '{"kind": "other"}', '{"kind": "rating", "question": 3}'])
def test_a_line_of_something_else_is_named(line, tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps({"kind": "refused", "question": "a", "ids": []}) + f"\n{line}\n")
    with pytest.raises(ValueError, match="f.jsonl line 2 is not what a service writes"):
        feedback.read(str(path))
