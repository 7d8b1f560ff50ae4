"""Conversations: what clients may send, follow-up questions, small talk, stops, and what a reply says."""

import dataclasses
import json

import pytest

from docproduct.answering import Answer
from docproduct.answering.draft import Draft
from docproduct.answering.emergency import ADVICE
from docproduct.answering.query import NOT_ANSWERABLE, Suggestion
from docproduct.answering.support import SupportChecker
from docproduct.chatting import Conversation, Reply, follow_ups, small_talk
from docproduct.chatting.reply import ReplyDraft, opening
from docproduct.chatting.steps import run
from docproduct.chatting.stops import Stops
from docproduct.chatting.terminal import Talk, as_json
from docproduct.chatting.written_queries import query_in
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import Generation
from docproduct.index import Hit

ASTHMA = Hit(0.9, 1, "How is asthma treated?", "With inhaled steroids. Diet plays no role.", "s", "asthma")


def message(role, content):
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "has no messages. Expected for example"),
        ([message("bot", "Hi.")], "Message 1 has the role 'bot'; expected system, user, assistant"),
        ([{"content": "Hi."}], "Message 1 has the role None"),
        ([message("user", "Hi."), message("assistant", " \u200b"), message("user", "Hi.")], "Message 2 .* is empty"),
        ([message("user", None)], r"Message 1 \(user\) is empty"),
        ([message("user", "Hi."), message("assistant", "Hello.")], "has the role 'assistant'; expected user"),
        ([message("system", "Be kind.")], "has the role 'system'; expected user"),
        ([message("user", "Hi."), message("system", "Be kind."), message("user", "Hi.")], "Message 2 is a system"),
        ([message("system", "Be."), message("system", "Be kind."), message("user", "Hi.")], "Message 2 is a system"),
    ],
)
def test_wrong_conversations_are_refused(messages, said):
    with pytest.raises(ValueError, match=said):
        Conversation.of(messages)


def test_a_conversation_has_system_prompt_history_and_question():
    messages = [
        message("system", "Be kind."),
        message("user", " Hi. "),
        message("assistant", "Hello."),
        message("user", "Why?"),
    ]
    conversation = Conversation.of(messages)
    assert (conversation.system, conversation.question, conversation.user_turns) == (
        "Be kind.",
        "Why?",
        ["Hi.", "Why?"],
    )
    assert list(conversation.earlier) == [message("user", "Hi."), message("assistant", "Hello.")]


def found(turns, known):
    """Drives a search; `known` has the focus that texts with these words find. Returns the texts and the answer."""

    def answer(text):
        hits = [dataclasses.replace(ASTHMA, focus=focus) for word, focus in known.items() if word in text]
        return Answer(text, "a", tuple(hits or [ASTHMA]), bool(hits), None, 0, {})

    asked = []

    def answers(queries):
        asked.extend(query.question for query in queries)
        return [answer(query.question) for query in queries]

    return asked, run(follow_ups.search(turns), answers)


@pytest.mark.parametrize(
    ("turns", "searched"),
    [
        (["What is gout?"], "What is gout?"),
        (["How is asthma treated?", "And in children?"], "In children? (asthma)"),
        (["How is asthma treated?", "Is it contagious?"], "Is asthma contagious?"),
        (["How is asthma treated?", "What are its symptoms?"], "What are asthma's symptoms?"),
        (["How is asthma treated?", "Which test shows that?"], "Which test shows asthma?"),
        (["How is asthma treated?", "Is it contagious?", "And the symptoms?"], "The symptoms? (asthma)"),
        (["How is asthma treated?", "Does diet play a role?"], "Does diet play a role? (asthma)"),
        (
            ["How is asthma treated?", "Which medicine is best for children?"],
            "Which medicine is best for children? (asthma)",
        ),
        (["How is asthma treated?", "How do I know that I have gout?"], "How do I know that I have gout?"),
        (["How is asthma treated?", "What can people do for their gout?"], "What can people do for their gout?"),
        (["How is asthma treated?", "What is gout?"], "What is gout?"),
        (["How is asthma treated?", "What is gout and how is it treated?"], "What is gout and how is it treated?"),
        (["How is asthma treated?", "Which laptop should I buy?"], "Which laptop should I buy?"),
        (["Which laptop should I buy?", "Is it contagious?"], "Is it contagious?"),  # no topic is known
        # Near to gout alone, which it does not name: the sources on asthma tell of inhaled steroids, not of a toe.
        (["How is asthma treated?", "Are steroids inhaled?"], "Are steroids inhaled? (asthma)"),
        (["How is asthma treated?", "Why is my toe swollen?"], "Why is my toe swollen?"),
    ],
)
def test_follow_ups_get_the_topic_of_the_turn_before(turns, searched):
    _, answer = found(turns, {"asthma": "asthma", "gout": "gout", "steroids": "gout", "toe": "gout"})
    assert answer.question == searched


def test_without_a_column_of_topics_the_turn_before_is_added():
    assert found(["How is asthma treated?", "And in children?"], {"asthma": ""})[1].question == (
        "And in children? How is asthma treated?"
    )


def test_sources_of_the_very_topic_come_first():
    known = {"Turner": "Parsonage Turner syndrome", "syndrome": "Turner syndrome"}
    _, answer = found(
        ["What causes Turner syndrome?", "What is gout?", "Is it inherited?"], {"gout": "Turner syndrome"} | known
    )
    assert [hit.focus for hit in answer.hits] == ["Turner syndrome", "Parsonage Turner syndrome"]


@pytest.mark.parametrize("turn", ["Hello!", "hi there", "Thank you very much.", "OK, thanks!", "Who are you?", "Bye"])
def test_small_talk_gets_a_fixed_line(turn):
    assert small_talk.reply_to(turn, 1_234)


def test_a_greeting_says_what_can_be_asked():
    line = small_talk.reply_to("Hello", 1_234, ["What is gout?"])
    assert "1,234 stored answers" in line
    assert line.endswith("What is gout?")


@pytest.mark.parametrize("turn", ["Hello, what is gout?", "Thanks. And in children?", "help with a cough", "gout"])
def test_questions_are_no_small_talk(turn):
    assert small_talk.reply_to(turn, 1_234) is None


def written(text, finished=False):
    return Generation((5, 6), text, finished, 1)


def test_a_text_ends_before_the_first_stop():
    stops = Stops(["\n\n", "END"])
    assert stops.cut(written("one END two\n\n")) == written("one ", finished=True)
    assert stops.cut(written("one two")) == written("one two")
    # While it grows, what may become a stop is held back.
    assert [stops.cut(written(text)).text for text in ("one E", "one EN", "one\n", "one ENT")] == [
        "one ",
        "one ",
        "one",
        "one ENT",
    ]
    assert stops.cut(written("one EN"), is_last=True).text == "one EN"
    assert stops.cut(written("one EN", finished=True)).text == "one EN"
    with pytest.raises(ValueError, match="stop holds an empty text"):
        Stops([""])


def reply_draft(answer, only_supported=False):
    check = SupportChecker().against([(ASTHMA.question, ASTHMA.answer)])
    begun = Reply(opening(answer, True, False), answer)
    return ReplyDraft(begun, Draft(answer, [1, 2, 3], check, only_supported, 4), GenerationSettings(), ())


ANSWER = Answer("q", "a", (ASTHMA,), True, None, 1, {})


def test_a_reply_grows_and_is_checked():
    draft = reply_draft(dataclasses.replace(ANSWER, emergency=ADVICE))
    assert (draft.begun.content, draft.begun.prompt_tokens, draft.begun.num_left_out) == (ADVICE, 3, 4)
    growing = draft.growing(written("[1] With inhaled"), 0)
    assert growing.content == f"{ADVICE}\n\nWith inhaled"
    complete = draft.complete(written("[1] With inhaled steroids. Insulin cures it.", finished=True), 0)
    assert complete.content == f"{ADVICE}\n\nWith inhaled steroids. Insulin cures it. [1]"
    assert [sentence.supported for sentence in complete.answer.sentences] == [True, False]
    assert (complete.finished, complete.completion_tokens) == (True, 3)


def test_a_reply_helps_on_where_the_model_refuses():
    content = reply_draft(ANSWER).complete(written("The sources do not say.", finished=True), 0).content
    nearest = f"The nearest stored answer is to the question: {ASTHMA.question}\n\n{ASTHMA.answer}"
    assert content == f"The sources do not say. {nearest}"
    content = reply_draft(ANSWER, only_supported=True).complete(written("Insulin cures asthma.", True), 0).content
    assert content.endswith(f"The nearest stored answer:\n\n{ASTHMA.answer}")


def test_a_reply_says_first_that_nothing_is_near():
    answer = dataclasses.replace(
        ANSWER, answerable=False, suggestions=(Suggestion("asthma", "q"), Suggestion("gout", "q"))
    )
    assert opening(answer, True, False) == f"{NOT_ANSWERABLE} Did you mean: asthma; gout?"
    assert opening(answer, True, True).endswith("\n\nFrom the model's memory, without a source:")
    assert opening(answer, False, True) == ""


def test_a_query_is_the_first_line_of_what_a_model_writes():
    assert query_in('Question: "How is gout treated?"\nIt is ...') == "How is gout treated?"
    assert query_in(" \n") == ""


def test_commands_of_a_talk(tmp_path, capsys):
    def ask(conversation):
        if conversation.question == "bad":
            raise ValueError("Roles must alternate.")
        yield Reply(f"{len(conversation.earlier)} turns before.", ANSWER)

    talk = Talk(ask, "Be kind.")
    assert as_json(talk) is None
    talk.handle("/sources")
    for line in ("Hello?", "And now?", "/sources", "/save " + str(tmp_path / "talk.jsonl"), "/what"):
        talk.handle(line)
    with pytest.raises(ValueError, match="alternate"):
        talk.handle("bad")
    saved = [json.loads(line) for line in (tmp_path / "talk.jsonl").read_text().splitlines()]
    assert saved == talk.messages
    assert [entry["role"] for entry in saved] == ["system", "user", "assistant", "user", "assistant"]
    assert saved[-1]["content"] == "2 turns before."
    told = json.loads(as_json(talk))
    assert (told["messages"], told["content"], told["answerable"]) == (5, "2 turns before.", True)
    said = capsys.readouterr().err
    assert "There is no answer yet." in said
    assert ASTHMA.answer in said
    assert said.count("not medical advice") == 3
    assert "/reset begins" in said
    talk.handle("/reset")
    assert (talk.messages, talk.reply) == ([message("system", "Be kind.")], None)
    with pytest.raises(ValueError, match="/save needs the file"):
        talk.handle("/save")
