"""OpenAI's routes for conversations and completions, with OpenAI's client."""

import concurrent.futures
import dataclasses
import gc
import io
import json
import weakref

import numpy as np
import openai
import pytest
from scipy.special import log_softmax

from docproduct.answering import Answerer
from docproduct.chatting import Chat, ChatSettings, Conversation, ReplySettings
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import GenerationSession
from docproduct.web.measures import Measures
from docproduct.web.reloading import Reloadable
from docproduct.web.server import create_app
from docproduct.web.service import Service
from docproduct.web.settings import ServiceSettings
from docproduct.web.talking import Talking
from tests.commands import run
from tests.serving import in_thread, message, running
from tests.talkers import chat_model

USER = {"role": "user", "content": "what is a3?"}
TALK = [USER, {"role": "assistant", "content": "the x."}, {"role": "user", "content": "what is b4?"}]


@pytest.fixture(scope="module")
def model():
    return chat_model()


@pytest.fixture(scope="module")
def chat_folders(folders, model, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("chat") / "model")
    model.save(folder)
    return dataclasses.replace(folders, generator_dir=folder)


@pytest.fixture(scope="module")
def chat_source(chat_folders):
    return Reloadable(chat_folders)


@pytest.fixture(scope="module")
def client(chat_source):
    with running(create_app(chat_source)) as test_client:
        yield test_client


@pytest.fixture(scope="module")
def openai_client(chat_source):
    with (
        in_thread(create_app(chat_source)) as server,
        openai.OpenAI(base_url=f"{server.url}v1", api_key="none") as made,
    ):
        yield made


def test_a_conversation_through_openais_client(openai_client, chat_source):
    reply = openai_client.chat.completions.create(model="any", messages=TALK, max_tokens=9, temperature=0, user="me")
    direct = Chat(chat_source.answerer).reply(
        Conversation.of(TALK), ReplySettings(sampling=GenerationSettings(max_tokens=9))
    )
    (choice,) = reply.choices
    assert (choice.message.role, choice.message.content) == ("assistant", direct.content)
    assert (reply.model, reply.object, choice.finish_reason) == ("any", "chat.completion", "length")
    usage = reply.usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (direct.prompt_tokens, 9)
    assert usage.total_tokens == usage.prompt_tokens + 9
    told = reply.model_extra
    assert [source["question"] for source in told["sources"]] == [hit.question for hit in direct.answer.hits]
    assert "".join(sentence["text"] for sentence in told["sentences"]).strip() == direct.answer.generated
    assert (told["answerable"], told["query"], "not medical advice" in told["disclaimer"]) == (
        True,
        "what is b4?",
        True,
    )


def test_a_stream_through_openais_client(openai_client):
    asked = {"model": "docproduct-chat", "messages": TALK, "max_completion_tokens": 40}
    whole = openai_client.chat.completions.create(**asked)
    chunks = list(openai_client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    *growing, end, usage = chunks
    assert growing[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in growing) == whole.choices[0].message.content
    assert len(growing) == 3  # the role, and the text in pieces of 16 tokens
    assert end.choices[0].finish_reason == whole.choices[0].finish_reason
    assert end.model_extra["sources"] == whole.model_extra["sources"]
    assert (usage.choices, usage.usage) == ([], whole.usage)
    assert len({chunk.id for chunk in chunks}) == 1
    without = list(openai_client.chat.completions.create(**asked, stream=True))
    assert len(without) == len(chunks) - 1


def test_earlier_turns_and_the_system_prompt_are_read(client, chat_source):
    def num_read(messages, **given):
        return client.post("/v1/chat/completions", json={"messages": messages, **given}).json()["usage"][
            "prompt_tokens"
        ]

    system = [{"role": "system", "content": "be short."}]
    assert num_read(TALK[-1:]) < num_read(TALK) < num_read(system + TALK)
    parts = [{"role": "user", "content": [{"type": "text", "text": "what is "}, {"type": "text", "text": "b4?"}]}]
    assert num_read(parts) == num_read(TALK[-1:])
    # Alone, the model reads no sources.
    assert num_read(TALK, grounded=False) < num_read(TALK)
    off = create_app(chat_source, ServiceSettings(chat=ChatSettings(history="off")))
    with running(off) as other:
        body = {"messages": TALK}
        assert other.post("/v1/chat/completions", json=body).json()["usage"]["prompt_tokens"] == num_read(TALK[-1:])


def test_small_talk_and_advice(client):
    hello = client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "Hello!"}]}).json()
    assert "60 stored answers" in hello["choices"][0]["message"]["content"]
    assert (hello["answerable"], hello["query"], hello["sources"]) == (None, None, [])
    assert hello["usage"]["total_tokens"] == 0
    urgent = [{"role": "user", "content": "I have chest pain and cannot breathe"}]
    for given in ({}, {"grounded": False}):
        reply = client.post("/v1/chat/completions", json={"messages": urgent, **given}).json()
        assert reply["choices"][0]["message"]["content"].startswith("If this is happening now")
        assert reply["emergency"]
    with client.stream("POST", "/v1/chat/completions", json={"messages": urgent, "stream": True}) as response:
        first = json.loads(next(response.iter_lines()).removeprefix("data: "))
    assert first["emergency"] == reply["emergency"]  # before anything is written


def test_the_bias_of_refusals_is_for_prompts_with_sources(client, chat_source, monkeypatch):
    """With a bias above all logits, a reply from sources begins with the refusal's first token; no other text does."""
    biased, answerer = chat_model(), chat_source.answerer
    biased.refusal_bias = 1e4
    first, session = biased.tokenizer.decode([biased.refusal_id]), GenerationSession.of(biased)

    def begins(route, threshold=-1.0, **body):
        refusing = Answerer(answerer.retriever, answerer.index, session, threshold=threshold)
        monkeypatch.setattr(chat_source, "answerer", refusing)
        (choice,) = client.post(f"/v1/{route}", json=body | {"max_tokens": 1}).json()["choices"]
        return (choice["message"]["content"] if "message" in choice else choice["text"]).endswith(first)

    messages = [{"role": "user", "content": "the helps"}]
    assert begins("chat/completions", messages=messages)
    assert not begins("chat/completions", messages=messages, grounded=False)
    assert not begins("chat/completions", threshold=2.0, messages=messages, from_memory=True)  # nothing is near
    assert not begins("completions", prompt="what")


def test_where_nothing_is_near_the_reply_says_so(chat_folders):
    answerer = Answerer.load(dataclasses.replace(chat_folders, threshold=2.0))
    chat, conversation = Chat(answerer), Conversation.of([{"role": "user", "content": "the helps"}])
    reply = chat.reply(conversation)
    assert reply.content.startswith("No stored answer is close enough")
    assert (reply.completion_tokens, reply.from_memory, reply.answer.answerable) == (0, False, False)
    sampling = GenerationSettings(max_tokens=12)
    memory = chat.reply(conversation, ReplySettings(from_memory=True, sampling=sampling))
    assert memory.content.startswith(f"{reply.content}\n\nFrom the model's memory, without a source:\n\n")
    assert (memory.from_memory, memory.completion_tokens) == (True, 12)
    assert not any(sentence.supported for sentence in memory.answer.sentences)


def test_the_model_may_write_the_query(chat_source):
    chat = Chat(chat_source.answerer, ChatSettings(write_queries=True))
    reply = chat.reply(Conversation.of(TALK), ReplySettings(sampling=GenerationSettings(max_tokens=3)))
    assert reply.answer.question not in ("what is b4?", "")
    alone = chat.reply(Conversation.of(TALK[-1:]), ReplySettings(sampling=GenerationSettings(max_tokens=3)))
    assert alone.answer.question == "what is b4?"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "messages: Field required"),
        ({"messages": []}, "messages: List should have at least 1 item"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "Message 1 has the role 'tool'; expected system, user"),
        ({"messages": [{"role": "user", "content": " "}]}, "Message 1 (user) is empty"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"messages": TALK[:2]}, "The last message has the role 'assistant'"),
        ({"messages": [{"role": "system", "content": "be short. " * 400}, USER]}, "The system prompt has "),
        ({"messages": [USER], "n": 2}, "n: Input should be 1"),
        ({"messages": [USER], "stop": list("abcde")}, "stop: "),
        ({"messages": [USER], "temperature": 1e-5}, "temperature is 1e-05"),
        ({"messages": [USER], "k": 61}, "k: Input should be less than or equal to 50"),
        ({"messages": [USER], "max_tokens": 0}, "max_tokens: Input should be greater"),
    ],
)
def test_wrong_conversations_are_told_what_is_wrong(client, body, said):
    for stream in (False, True):
        response = client.post("/v1/chat/completions", json=body | {"stream": stream})
        assert message(response, 422, "invalid_request").startswith(said)


def test_echo_and_logprobs_are_those_of_the_model(openai_client, model):
    text = "what is the cause?"
    (ids,) = model.tokenizer.encode([text])
    logits = model.decoder.logits(model.decoder(np.array([ids])))[0].numpy()
    expected = log_softmax(logits.astype(np.float64), axis=-1)
    asked = {"model": "docproduct-chat", "logprobs": 2, "temperature": 0}
    (choice,) = openai_client.completions.create(prompt=text, echo=True, max_tokens=0, **asked).choices
    assert (choice.text, choice.finish_reason) == (text, "length")
    told = choice.logprobs
    assert "".join(told.tokens) == text
    assert [text[start:].startswith(token) for start, token in zip(told.text_offset, told.tokens, strict=True)]
    assert (told.token_logprobs[0], told.top_logprobs[0]) == (None, None)
    np.testing.assert_allclose(told.token_logprobs[1:], expected[range(len(ids) - 1), ids[1:]], atol=1e-5)
    for row, top in zip(expected[:-1], told.top_logprobs[1:], strict=True):
        assert max(top.values()) == pytest.approx(row.max(), abs=1e-5)
    # As evaluation harnesses ask: ids, and one token more, which is the likeliest.
    both = openai_client.completions.create(prompt=[ids, ids[:4]], echo=True, max_tokens=1, **asked).choices
    assert [len(choice.logprobs.tokens) for choice in both] == [len(ids) + 1, 5]
    last = both[0].logprobs
    assert last.token_logprobs[:-1] == told.token_logprobs
    assert last.token_logprobs[-1] == max(last.top_logprobs[-1].values()) == pytest.approx(expected[-1].max(), abs=1e-5)


def test_completions_go_on_with_texts(openai_client, chat_source):
    generator = chat_source.answerer.generator
    prompts = generator.tokenizer.encode(["what is", "the x"])
    settings = GenerationSettings(max_tokens=16, no_repeat_ngram_size=0)
    expected = [generator.write([ids], settings)[0][0].text for ids in prompts]
    made = openai_client.completions.create(model="m", prompt=["what is", "the x"])
    assert [choice.text for choice in made.choices] == expected
    assert made.usage.prompt_tokens == sum(map(len, prompts))
    stop = expected[0][3:5]
    (choice,) = openai_client.completions.create(model="m", prompt="what is", stop=stop).choices
    assert (choice.text, choice.finish_reason) == (expected[0][: expected[0].index(stop)], "stop")
    stopped = openai_client.completions.create(model="m", prompt="what is", stop=stop, max_tokens=64, logprobs=1)
    assert len("".join(stopped.choices[0].logprobs.tokens[:-1])) < len(choice.text)
    assert stopped.usage.completion_tokens < 64


def test_a_completion_is_as_long_beside_a_long_prompt(client, chat_source):
    """The longest prompt of a batch decides where its answers end."""
    window = chat_source.answerer.generator.window
    body = {"max_tokens": 40, "temperature": 0}
    alone = client.post("/v1/completions", json=body | {"prompt": "what is"}).json()["usage"]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        prompts = [[5] * (window - 4), "what is", [5] * (window - 4), "what is"]
        asked = threads.map(lambda prompt: client.post("/v1/completions", json=body | {"prompt": prompt}), prompts)
        usages = [response.json()["usage"]["completion_tokens"] for response in asked]
    assert usages[1] == usages[3] == alone["completion_tokens"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"prompt": ""}, "The prompt is empty"),
        ({"prompt": []}, "The prompt is empty"),
        ({"prompt": [[]]}, "Prompt 1 has 0 tokens"),
        ({"prompt": [5, 99_999]}, "Prompt 1 holds the id 99999"),
        ({"prompt": [5, -1]}, "Prompt 1 holds the id -1"),
        ({"prompt": [5] * 900}, "Prompt 1 has 900 tokens; expected 1 to 899"),
        ({"prompt": [5] * 901, "max_tokens": 0, "echo": True}, "Prompt 1 has 901 tokens; expected 1 to 900"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens is 0"),
        ({"prompt": "a", "logprobs": 6}, "logprobs: Input should be less than or equal to 5"),
        ({"prompt": "a", "best_of": 2}, "best_of: Input should be 1"),
        ({"prompt": "a", "stream": True}, "stream: Input should be False"),
        ({"prompt": "a", "stop": [""]}, "stop"),
    ],
)
def test_wrong_completions_are_told_what_is_wrong(client, body, said):
    assert message(client.post("/v1/completions", json=body), 422, "invalid_request").startswith(said)


def test_both_models_are_listed(openai_client):
    assert [entry.id for entry in openai_client.models.list()] == ["docproduct", "docproduct-chat"]
    assert openai_client.models.retrieve("docproduct-chat").object == "model"


def test_without_a_generator_the_routes_say_so(folders):
    with running(create_app(Reloadable(dataclasses.replace(folders, generator_dir=None)))) as quoting:
        for route, body in (("chat/completions", {"messages": [USER]}), ("completions", {"prompt": "a"})):
            said = message(quoting.post(f"/v1/{route}", json=body), 404, "invalid_request")
            assert said == "This service has no generator. Start it with --model_dir, --index_dir and --generator_dir."
        assert len(quoting.get("/v1/models").json()["data"]) == 1


def test_an_export_without_a_template_says_what_it_cannot(source):
    with running(create_app(source)) as exported:
        asked = {"messages": [{"role": "system", "content": "be short."}, USER]}
        said = message(exported.post("/v1/chat/completions", json=asked), 422, "invalid_request")
        assert said.startswith("This generator has no chat template, and takes no system prompt")
        assert exported.post("/v1/chat/completions", json={"messages": TALK, "max_tokens": 3}).status_code == 200
        said = message(exported.post("/v1/completions", json={"prompt": "what", "logprobs": 1}), 422, "invalid_request")
        assert said.startswith("This service cannot return logprobs: its generator is an export")
        assert exported.post("/v1/completions", json={"prompt": "what", "max_tokens": 2}).status_code == 200
    # A service says so when it starts.
    for asked in (ChatSettings(history="on"), ChatSettings(write_queries=True)):
        with pytest.raises(ValueError, match="no chat template, and --(history=on|write_queries) needs one"):
            create_app(source, ServiceSettings(chat=asked))


@pytest.mark.long
def test_a_reload_leaves_no_conversation_with_the_old_models(chat_folders):
    source = Reloadable(chat_folders)
    service = Service(source, ServiceSettings(), Measures())
    talking = Talking(service, source, ServiceSettings())
    assert talking.is_possible
    old = weakref.ref(source.answerer.generator)
    assert source.reload()
    gc.collect()
    assert old() is None
    service.close()


def test_a_chat_needs_a_generator(folders):
    answerer = Answerer.load(dataclasses.replace(folders, generator_dir=None))
    with pytest.raises(ValueError, match="A chat needs a generator. Give one with --generator_dir"):
        Chat(answerer)


def test_the_script_reads_turns_from_its_input(chat_folders, tmp_path, monkeypatch):
    names = ("model_dir", "index_dir", "generator_dir", "threshold")
    flags = [f"--{name}={getattr(chat_folders, name)}" for name in names]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("what is a3?\nwhat is b4?\n\n/sources\n/save talk.jsonl\n"))
    result = run("docproduct.chat", *flags, "--max_tokens=6", "--system_prompt=be short.")
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["messages"], told["query"]) == (5, "what is b4?")
    assert len((tmp_path / "talk.jsonl").read_text().splitlines()) == 5
    assert result.stderr.count("not medical advice") == 3
