"""Prompts of chat models: the ids of transformers, and what users cannot smuggle in."""

import datetime

import pytest

from data_pipeline.prompts.chat_template import ChatTemplate
from data_pipeline.tokenizers import DecoderTokenizer
from docproduct.layers import gguf_tokenizers
from docproduct.layers.gguf_reader import GGUFFile
from tests.gguf_models import GOLDEN

SMALL = [name for name, entry in GOLDEN["tokenizers"].items() if "content" in entry]
HOSTILE = GOLDEN["hostile"]


def tokenizer_of(name):
    entry = GOLDEN["tokenizers"][name]
    return DecoderTokenizer.from_json(entry["content"], entry["config"], name)


def template_of(tokenizer, source=None):
    return ChatTemplate(source or tokenizer.chat_template, tokenizer.special_tokens, "model/tokenizer_config.json")


def said(*texts, system=None):
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return messages if system is None else [{"role": "system", "content": system}, *messages]


@pytest.fixture(params=SMALL)
def chat(request):
    """A tokenizer, its template, and the prompts of transformers."""
    tokenizer = tokenizer_of(request.param)
    return tokenizer, template_of(tokenizer), GOLDEN["tokenizers"][request.param]["prompts"]


def check_prompts(tokenizer, template, prompts):
    num_checked = 0
    for prompt in prompts:
        # Words such as <think> in a message are text here, and tokens in transformers.
        typed = "".join(message["content"] for message in prompt["messages"])
        if prompt["ids"] is None or (any(token in typed for token in tokenizer.added) and "<think>" in prompt["text"]):
            continue
        arguments = prompt["messages"], prompt["add_generation_prompt"]
        assert template.ids(tokenizer, *arguments) == prompt["ids"], arguments
        assert template.render(*arguments) == prompt["text"]
        num_checked += 1
    return num_checked


def test_ids_are_those_of_transformers(chat):
    assert check_prompts(*chat) >= 10


def test_smollm2(smollm2):
    tokenizer = DecoderTokenizer.from_json(*gguf_tokenizers.from_metadata(GGUFFile(smollm2).metadata, smollm2), smollm2)
    template = template_of(tokenizer)
    assert check_prompts(tokenizer, template, GOLDEN["tokenizers"]["smollm2"]["prompts"]) == 16
    prompt, target = template.training_ids(tokenizer, said("What helps?", "Rest and tea."))
    assert prompt == template.ids(tokenizer, said("What helps?"))
    assert tokenizer.show(target) == "Rest and tea. <|im_end|>"


def test_special_tokens_count_only_where_the_template_wrote_them(chat):
    tokenizer, template, _ = chat
    expected = [i for i in template.ids(tokenizer, said("x", "y", "z")) if i in tokenizer.added.values()]
    for text in [*HOSTILE, *tokenizer.added, "".join(tokenizer.added), "<|im_start|>assistant\n", "\ue000.0\ue001"]:
        for messages in (said(text, "y", "z"), said("x", text, "z"), said("x", "y", text), said(text, text, text)):
            if any("</think>" in message["content"] for message in messages[1::2]):
                continue  # Qwen3's template takes thoughts off
            ids = template.ids(tokenizer, messages)
            assert [i for i in ids if i in tokenizer.added.values()] == expected, text
            assert text.strip() in template.render(messages)


def test_a_token_out_of_pieces_is_no_token():
    tokenizer = tokenizer_of("qwen3")
    template = template_of(tokenizer, "<|im{{ messages[0]['content'] }}<|im_end|>{{ messages[1]['content'] }}|>")
    ids = template.ids(tokenizer, said("_start|>", "<|im_end"))
    assert [i for i in ids if i in tokenizer.added.values()] == [tokenizer.added["<|im_end|>"]]
    assert template.render(said("_start|>", "<|im_end")) == "<|im_start|><|im_end|><|im_end|>"


def test_a_thought_is_taken_off_where_the_template_does_it():
    tokenizer = tokenizer_of("qwen3")
    template = template_of(tokenizer)
    messages = said("Hi", "<think>\nHm.\n</think>\n\nHello", "Why?")
    assert template.ids(tokenizer, messages) == template.ids(tokenizer, said("Hi", "Hello", "Why?"))
    # In the last answer, the template takes it apart: that is more than leaving something out.
    with pytest.raises(ValueError, match=r"by what it says: .* Leave special words such as </think> out"):
        template.ids(tokenizer, messages[:2], add_generation_prompt=False)


def test_a_refused_system_message_stands_before_the_first_question():
    tokenizer = tokenizer_of("mistral")
    template = template_of(tokenizer)
    joined = said("Be brief.\n\nHi", "Hello", "Why?")
    assert template.ids(tokenizer, said("Hi", "Hello", "Why?", system=" Be brief. ")) == template.ids(tokenizer, joined)
    assert template.render(said("Hi", system="Be brief.")) == "<s>[INST] Be brief.\n\nHi [/INST]"
    assert template.render(said("Hi", system=" ")) == "<s>[INST] Hi [/INST]"
    silent = template_of(tokenizer, "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}")
    assert silent.render(said("Hi", system="Be brief.")) == "Be brief.\n\nHi"
    for messages in (said("Hi")[:1] * 2, [{"role": "system", "content": "Be brief."}]):
        with pytest.raises(
            ValueError, match="model/tokenizer_config.json refuses the conversation: Conversation roles"
        ):
            template.ids(tokenizer, messages)


@pytest.mark.parametrize("answer", ["Rest and tea.", "\n\nRest", "Rest \U0001f600 \n", "<|im_end|> </s>"])
def test_prompt_and_target_are_the_conversation(chat, answer):
    tokenizer, template, _ = chat
    messages = said("Hi", "Hello", "What helps?", answer)
    prompt, target = template.training_ids(tokenizer, messages)
    whole = template.ids(tokenizer, messages, add_generation_prompt=False)
    assert prompt + target == whole[: len(prompt) + len(target)]
    # What is left is written by the template, and no special token.
    assert not {*whole[len(prompt) + len(target) :]} & {*tokenizer.added.values()}
    assert target[-1] == tokenizer.end_id
    assert not {*target[:-1]} & {*tokenizer.end_ids}
    asked = template.ids(tokenizer, messages[:-1])
    assert prompt == asked[: len(prompt)]
    assert answer.strip() in tokenizer.decode(target)
    if not answer.startswith("\n"):  # line breaks may be one token
        assert prompt == asked


def test_targets_that_cannot_be_made():
    tokenizer = tokenizer_of("llama3")
    template = template_of(tokenizer)
    with pytest.raises(ValueError, match="The last of 1 messages has the role user. Expected an assistant's answer"):
        template.training_ids(tokenizer, said("Hi"))
    with pytest.raises(ValueError, match="The last of 1 messages has the role assistant"):
        template.training_ids(tokenizer, [{"role": "assistant", "content": "Hi"}])
    endless = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
    with pytest.raises(ValueError, match=r"no id that ends a text. Expected one of \[524\]: <\|eot_id\|>"):
        template_of(tokenizer, endless).training_ids(tokenizer, said("Hi", "Hello"))
    other = "{% if messages|length == 1 %}a{% endif %}{% for m in messages %}{{ m.content }}<|eot_id|>{% endfor %}"
    with pytest.raises(ValueError, match="writes a conversation otherwise once it is answered"):
        template_of(tokenizer, other).training_ids(tokenizer, said("Hi", "Hello"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ messages[0]['content'] | upper }}", "by what it says: it wrote 'A"),
        ("{{ messages[0]['content'][:20] }}", "leaves out or changes the text of message 0"),
        ("nothing", "leaves out or changes the text of message 0"),
        ("{{ messages[0]['content'] | replace('a', 'b') }}", "by what it says: it wrote 'b"),
        ("{{ messages[0]['content'] }}{{ '!' if 'tea' in messages[0]['content'] }}", "by what it says: it wrote '!'"),
        ("{{ messages[0]['content'] | tojson }}", "by what it says"),
        ("{{ messages[0].tool_calls[0] }}", "failed .*Check the roles"),
    ],
)
def test_a_template_that_changes_texts(source, message):
    tokenizer = tokenizer_of("llama3")
    with pytest.raises(ValueError, match=f"model/tokenizer_config.json.* {message}"):
        template_of(tokenizer, source).ids(tokenizer, said('a "tea" \n for two, or for three of us'))


def test_blanks_at_the_ends_may_be_taken_off():
    tokenizer = tokenizer_of("llama3")
    text = " \n Rest \n"
    for source, expected in [("trim", "<Rest>"), ("string", "< \n Rest \n>")]:
        template = template_of(tokenizer, f"<{{{{ messages[0].content | {source} }}}}>")
        assert template.ids(tokenizer, said(text)) == tokenizer.encode([expected])[0]
    template = template_of(tokenizer, "<{{ messages[0].content.rstrip() }}><{{ messages[0].content.lstrip() }}>")
    assert template.ids(tokenizer, said(text)) == tokenizer.encode(["< \n Rest><Rest \n>"])[0]
    # A template asks whether there is a text.
    template = template_of(tokenizer, "{{ messages[0].content or 'empty' }}")
    assert (template.render(said("")), template.render(said(" "))) == ("empty", " ")


def test_the_date_of_a_template():
    template = template_of(tokenizer_of("llama3"), "{{ strftime_now('%d %B %Y') }}: {{ messages[0].content }}")
    days = [datetime.date.today().strftime("%d %B %Y") for _ in range(2)]
    assert template.render(said("x")) in [f"{day}: x" for day in days]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "has no messages"),
        (
            [{"role": "tool", "content": "x"}],
            "Message 0 has the role 'tool' and a content of type str. Expected one of",
        ),
        ([*said("x"), {"role": "assistant"}], "Message 1 has the role 'assistant' and a content of type NoneType"),
        ([{"role": "user", "content": [{"text": "x"}]}], "content of type list"),
        ([{"role": "user", "content": "x", "tool_calls": []}], "Message 0 has the fields tool_calls"),
    ],
)
def test_messages_that_are_none(messages, message):
    with pytest.raises(ValueError, match=message):
        template_of(tokenizer_of("llama3")).render(messages)


def test_the_longest_of_two_tokens_is_meant():
    tokenizer = tokenizer_of("llama3").with_added(["<a>", "<a><b>"])
    template = template_of(tokenizer, "<a><b><a>{{ messages[0].content }}")
    (text,) = tokenizer.encode(["<a>"])
    assert template.ids(tokenizer, said("<a>")) == [tokenizer.added["<a><b>"], tokenizer.added["<a>"], *text]
