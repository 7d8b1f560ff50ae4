"""Questions that their passage does not answer, and models of this machine that write questions."""

import asyncio
import json

import pytest

from data_pipeline.generate_questions.answers import Item, Step
from data_pipeline.generate_questions.filters import Candidate
from data_pipeline.generate_questions.writers import RefusedError
from data_pipeline.prompts.chat_prompts import conversation_ids
from data_pipeline.rows import Passage
from data_pipeline.tokenizers import train_byte_pairs
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import Generation
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.question_filters import ALIKE, NOT_FOUND, NOT_SUPPORTED, alike, not_found, unsupported
from docproduct.question_writer import LocalWriter
from docproduct.systems.generator import TrainedGenerator
from tests.conftest import FirstLetter
from tests.test_scripts import run
from tests.toy_chat import chat_tokenizer

SCURVY = Passage(
    "Scurvy is caused by a lack of vitamin C. The gums bleed, and wounds heal poorly. In 1747 James Lind showed that "
    "oranges and lemons cure it. Two a day are enough.",
    "Scurvy",
)
MESSAGES = [{"role": "system", "content": "Write questions."}, {"role": "user", "content": "Passage: a b c."}]


def candidate(question, *right, passage=SCURVY, passage_id="s"):
    return Candidate(passage_id, passage, Item((Step(question, right, ("no",)),)))


@pytest.mark.parametrize(
    ("question", "right", "reason"),
    [
        ("What causes scurvy?", ["A lack of vitamin C"], ""),
        ("What causes scurvy?", ["A lack of vitamin D"], NOT_SUPPORTED),
        ("What causes scurvy?", ["A lack of iron"], NOT_SUPPORTED),
        ("What cures scurvy?", ["Oranges", "Lemons"], ""),
        ("What cures scurvy?", ["Oranges", "Penicillin"], NOT_SUPPORTED),
        ("Who found a cure?", ["James Lind"], ""),
        ("Who found a cure?", ["Louis Pasteur"], NOT_SUPPORTED),
        ("When?", ["1747"], ""),
        ("When?", ["1847"], NOT_SUPPORTED),
        ("How many?", ["Two"], ""),
        ("How many?", ["Four"], NOT_SUPPORTED),
        ("What is scurvy?", ["Scurvy is caused by a lack of vitamin C. The gums bleed."], ""),
        ("What is scurvy?", ["Scurvy is caused by a lack of vitamin C. The kidneys fail."], NOT_SUPPORTED),
    ],
)
def test_answers_that_the_passage_does_not_say(question, right, reason):
    assert unsupported()([candidate(question, *right)]) == [reason]


def test_every_question_of_a_series_must_be_answered():
    steps = (Step("Why?", ("A lack of vitamin C",), ("no",)), Step("What helps?", ("Surgery",), ("no",)))
    candidates = [Candidate("s", SCURVY, Item(steps[:count], "A case.")) for count in (1, 2)]
    assert unsupported()(candidates) == ["", NOT_SUPPORTED]


def test_passages_that_their_question_does_not_find():
    # The encoder knows first letters: of the passages a, b, b, a question on b finds two, and none before its own.
    passages = {"1": Passage("apple"), "2": Passage("bread"), "3": Passage("butter", "")}
    questions = [
        candidate(text, "x", passage_id=passage_id) for text, passage_id in (("a?", "1"), ("b?", "3"), ("a?", "2"))
    ]
    assert not_found(FirstLetter(), passages, 1)(questions) == ["", "", NOT_FOUND]
    assert not_found(FirstLetter(), passages, 2)(questions) == ["", "", ""]  # one passage is nearer


def test_questions_that_are_alike():
    questions = [candidate(text, "x") for text in ("a?", "b?", "an other?", "c?", "beside?")]
    assert alike(FirstLetter(), 0.9)(questions) == ["", "", ALIKE, "", ALIKE]
    assert alike(FirstLetter(), 1.0)(questions) == [""] * 5


class Session:
    """A session that writes the number of tokens of each prompt; remembers the batches."""

    def __init__(self, tokenizer, window=400):
        self.tokenizer, self.window, self.batches = tokenizer, window, []

    def write(self, prompts, settings):
        self.batches.append(list(prompts))
        return [[Generation((1,) * settings.max_tokens, f"of {len(prompt)}", False, 1)] for prompt in prompts]


def replies(writer, *conversations):
    async def all_replies():
        try:
            return await asyncio.gather(*map(writer.write, conversations), return_exceptions=True)
        finally:
            await writer.close()

    return asyncio.run(all_replies())


def test_a_model_of_this_machine_goes_on_with_the_opening():
    tokenizer = chat_tokenizer(["Write questions."])
    session = Session(tokenizer)
    longer = [MESSAGES[0], {"role": "user", "content": "Passage: a b c d e f g."}]
    writer = LocalWriter(session, GenerationSettings(max_tokens=7), 8, '{"questions": ')
    first, second = replies(writer, MESSAGES, longer)
    ((ids, other_ids),) = session.batches  # both are written together
    assert tokenizer.show(ids) == (
        "<|im_start|> system\nWrite questions. <|im_end|>  <|im_start|> user\nPassage: a b c. <|im_end|>  <|im_start|> "
        'assistant\n{"questions":'
    )
    assert (first.text, first.finished, first.tokens) == (f'{{"questions": of {len(ids)}', False, (len(ids), 7))
    assert second.tokens == (len(other_ids), 7)
    assert writer.most_tokens(MESSAGES) == (len(ids), 7)


def test_a_prompt_without_full_room_is_written_apart():
    """In a batch, the longest prompt would end the answers of all."""
    tokenizer = chat_tokenizer(["Write questions."])
    long = [MESSAGES[0], {"role": "user", "content": "Passage: a b c d e f g h i j k l m n o p."}]
    size = len(conversation_ids(tokenizer, long))
    session = Session(tokenizer, window=size + 20)
    replies(LocalWriter(session, GenerationSettings(max_tokens=30), 8), MESSAGES, long, MESSAGES)
    assert sorted(map(len, session.batches)) == [1, 2]


def test_without_a_chat_template_the_prompt_is_plain_text():
    tokenizer = train_byte_pairs(["Write questions."], 280)
    session = Session(tokenizer)
    replies(LocalWriter(session, GenerationSettings(max_tokens=7), 8), MESSAGES)
    assert tokenizer.decode(session.batches[0][0]).endswith("Write questions.\n\nPassage: a b c.\n\n")


def test_a_prompt_that_is_too_long_is_refused():
    session = Session(chat_tokenizer(["Write questions."]))
    long = [MESSAGES[0], {"role": "user", "content": "a b c " * 200}]
    writer = LocalWriter(session, GenerationSettings(max_tokens=7), 8)
    refused, written = replies(writer, long, MESSAGES)
    assert isinstance(refused, RefusedError)
    assert "the model's window 400" in str(refused)
    assert written.text.startswith("of ")
    assert writer.most_tokens(long) == (0, 0)


@pytest.mark.long
def test_the_command_with_a_model_and_an_encoder(retriever, tmp_path):
    bpe = train_byte_pairs([SCURVY.text], 300)
    sizes = GPT2Config(vocab_size=bpe.vocab_size, width=16, num_layers=1, num_heads=2, max_positions=2_048)
    TrainedGenerator.make(sizes, bpe, 3).save(str(tmp_path / "model"))
    (tmp_path / "encoder").mkdir()
    retriever.save_config(str(tmp_path / "encoder"), {})
    retriever.save_weights(str(tmp_path / "encoder"))
    (tmp_path / "book.md").write_text(f"# Scurvy\n{SCURVY.text}", encoding="utf-8")
    arguments = (
        "docproduct.generate_questions",
        f"--input={tmp_path}/book.md",
        f"--output_dir={tmp_path}/q",
        f"--model_dir={tmp_path}/model",
        f"--encoder_dir={tmp_path}/encoder",
        "--answer_tokens=20",
    )
    report = json.loads(run(*arguments, check=True).stdout)
    assert report["answers"] == {"passages": 1, "not_asked": 0, "refused": 0, "read": 0, "faulty": 1}
    assert report["output_tokens"] <= 20
    # A good answer in the journal, as an endpoint would give it, is judged without a call.
    question = {"question": "What causes scurvy?", "right": ["A lack of vitamin C"], "wrong": ["Rats"]}
    other = {"question": "Who is ill?", "right": ["The captain"], "wrong": ["Rats"]}
    path = tmp_path / "q/journal.jsonl"
    call, answer = map(json.loads, path.read_text().splitlines())
    answer["answer"] = json.dumps({"questions": [question, other]})
    path.write_text(f"{json.dumps(call)}\n{json.dumps(answer)}\n")
    report = json.loads(run(*arguments, check=True).stdout)
    assert report["calls"]["all"] == 1
    assert report["questions"] == {"read": 2, "dropped": 1, "kept": 1}
    assert report["dropped"] == {NOT_SUPPORTED: 1}
    assert json.loads((tmp_path / "q/questions.jsonl").read_text())["question"] == "What causes scurvy?"
