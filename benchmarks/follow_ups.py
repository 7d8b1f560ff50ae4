"""How well questions in the middle of a conversation are searched for, by ways to make them complete in themselves.

    python -m benchmarks.follow_ups --model_dir=model --index_dir=index --dialogues=benchmarks/follow_ups.jsonl

follow_ups.jsonl is about the sample's topics (`make demo` builds its index), follow_ups_medquad.jsonl about MedQuAD's.
The topic of the first source must be right, and if the table has the question of a follow-up, the first three hold it.
What no index holds must be refused. With --generator_dir, the model writes the question, too. Ends with one line
of JSON.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from absl import app, flags

from data_pipeline import cleaning
from docproduct.answering import Answer, Answerer, Folders, Query
from docproduct.chatting import Conversation, follow_ups, written_queries
from docproduct.chatting.steps import run

_SHOWN = 3  # sources in a prompt
Way = Callable[[Sequence[str]], Answer]


def ways(answerer: Answerer) -> dict[str, Way]:
    """Returns {name: function from the user's turns to what was found}."""

    def ask(text: str) -> Answer:
        return answerer.retrieve([Query(text)])[0]

    def topic(turns: Sequence[str]) -> Answer:
        return run(follow_ups.search(turns), answerer.retrieve)

    def written(turns: Sequence[str]) -> Answer:
        generator = answerer.generator
        messages = [message for turn in turns for message in _exchange(turn, ask(turn).answer)][:-1]
        ids = written_queries.prompt_ids(generator.tokenizer, Conversation.of(messages), generator.prompt.prompt_tokens)
        ((generation,),) = generator.write([ids], written_queries.SAMPLING)
        return ask(written_queries.query_in(generation.text) or turns[-1])

    found = {
        "last turn alone": lambda turns: ask(turns[-1]),
        "all turns joined": lambda turns: ask(" ".join(turns)),
        "topic of the turn before, if needed": topic,
    }
    return found | ({"written by the model": written} if answerer.generator else {})


def _exchange(turn: str, answer: str) -> Iterator[dict[str, str]]:
    yield {"role": "user", "content": turn}
    yield {"role": "assistant", "content": answer}


def scores(way: Way, dialogues: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Returns the share of right ones by kind of dialogue."""
    marks: dict[str, list[bool]] = {}
    for dialogue in dialogues:
        answer, kind = way(dialogue["turns"]), dialogue["kind"]
        if kind == "off-topic":
            marks.setdefault(f"{kind}: refused", []).append(not answer.answerable)
            continue
        right = cleaning.normal_form(answer.hits[0].focus) == cleaning.normal_form(dialogue["focus"])
        marks.setdefault(f"{kind}: topic", []).append(right and answer.answerable)
        if expected := dialogue["questions"]:
            shown = {hit.question for hit in answer.hits[:_SHOWN]}
            marks.setdefault(f"{kind}: question", []).append(answer.answerable and not shown.isdisjoint(expected))
    return {name: sum(values) / len(values) for name, values in marks.items()}


def main(argv: list[str]) -> None:
    """Prints a table and its JSON."""
    del argv
    values = flags.FLAGS
    with open(values.dialogues, encoding="utf-8") as file:
        dialogues = [json.loads(line) for line in file]
    folders = Folders(values.model_dir, values.index_dir, values.generator_dir, values.base_dir)
    table = {name: scores(way, dialogues) for name, way in ways(Answerer.load(folders)).items()}
    columns = list(next(iter(table.values())))
    print(f"| {len(dialogues)} dialogues | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for name, row in table.items():
        print(f"| {name} | " + " | ".join(f"{row[column]:.2f}" for column in columns) + " |")
    print(json.dumps({"dialogues": len(dialogues), "scores": table}))


if __name__ == "__main__":
    flags.DEFINE_string("model_dir", None, "Retriever, or a bare encoder folder.", required=True)
    flags.DEFINE_string("index_dir", None, "Index that was built with it.", required=True)
    flags.DEFINE_string("dialogues", "benchmarks/follow_ups.jsonl", "Dialogues, one a line.")
    flags.DEFINE_string("generator_dir", None, "Generator that writes questions; default: none.")
    flags.DEFINE_string("base_dir", None, "Of an adapter, the model that it was trained on.")
    app.run(main)
