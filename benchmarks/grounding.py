"""Whether a generator keeps to its sources: it copies the right one, and refuses when none answers the question.

    python -m benchmarks.grounding --model_dir=ENCODER --index_dir=index --prepared_dir=prepared --generator_dir=export

Asks some dev questions three times: with the own pair among the nearest pairs (`present`), with the nearest pairs that
do not give the answer away (`absent`), and without sources (`closed_book`). Reports, for each:

    rouge_l         ROUGE-L with the right answer; of the right answer in as many sentences as fit, it is `quoted`
    copied_share    share of the written 4-grams of words that stand in the sources
    refused_share   share of the questions that are answered with "The sources do not say."
    cited_share     share of the answers that name one of their sources
    supported_share share of the written statements that the check of support finds in the sources; 1 without any
    perplexity      of a token of the right answer, in as many sentences as fit; not of an export

--answers_file lists questions, sources and answers, for reading. Ends with one line of JSON.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import measuring
from data_pipeline import splits
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.folders.token_folder import CONTEXT_ANSWER, TokenRow
from data_pipeline.prompts.answer_prompts import Prompt, answer_prompt, target
from data_pipeline.prompts.chat_prompts import REFUSAL, cited
from data_pipeline.prompts.room import first_sentences
from data_pipeline.token_rows.grounded_rows import CITATION_TOKENS
from docproduct import command
from docproduct.answering.support import SupportChecker, support_share
from docproduct.fit_refusal import QuestionSources, questions_with_sources
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import GenerationSession
from docproduct.index import Index
from docproduct.metrics import ngram_share, rouge_l
from docproduct.systems import generator
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.generator.dev import DevEvaluation
from docproduct.systems.retriever import TrainedRetriever

_CITATION = re.compile(r"\s*\[(\d+)\]")
_UNITS = {"perplexity": "perplexity"}  # all others are shares
_COLUMNS = ["pair_id", "question", "answer"]


def dev_questions(values: flags.FlagValues, num_contexts: int) -> list[QuestionSources]:
    """Returns dev questions, evenly spaced, with their sources."""
    pairs = PreparedFolder(values.prepared_dir).table(_COLUMNS, splits.DEV).to_pylist()
    pairs = [pairs[i] for i in np.linspace(0, len(pairs) - 1, min(values.count, len(pairs))).astype(int)]
    retriever = TrainedRetriever.load_for_many(values.model_dir, "auto")
    return questions_with_sources(Index(values.index_dir, retriever), retriever, pairs, num_contexts)


def written(session: GenerationSession, prompts: Sequence[Prompt]) -> list[str]:
    """Returns the answers to prompts, greedily, one after the other: texts of a batch share the window."""
    settings = GenerationSettings(max_tokens=session.prompt.answer_tokens)
    return [session.write([prompt.ids], settings)[0][0].text.strip() for prompt in prompts]


def scores(answers: Sequence[str], prompts: Sequence[Prompt], pairs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Returns the mean scores of answers."""
    rows, check = [], SupportChecker()
    for answer, prompt, pair in zip(answers, prompts, pairs, strict=True):
        plain = _CITATION.sub("", answer)
        sources = "\n".join(text for source in prompt.sources for text in source)
        rows.append(
            {
                "rouge_l": rouge_l(pair["answer"], plain),
                "copied_share": ngram_share(plain, sources),
                "refused_share": float(plain.startswith(REFUSAL)),
                "supported_share": 1.0 if (share := support_share(check(answer, prompt.sources))) is None else share,
                "cited_share": float(any(int(n) <= len(prompt.sources) for n in _CITATION.findall(answer))),
            }
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def perplexity(model: TrainedGenerator, prompts: Sequence[Prompt], pairs: Sequence[dict[str, Any]], room: int) -> float:
    """Returns the perplexity per token of the right answers, behind the number of their source if it is there."""
    rows = []
    for prompt, pair in zip(prompts, pairs, strict=True):
        answer = first_sentences(model.tokenizer, pair["answer"], room - CITATION_TOKENS)
        questions = [question for question, _ in prompt.sources]
        if pair["question"] in questions:
            answer = cited(questions.index(pair["question"]) + 1, answer)
        rows.append(TokenRow(prompt.ids, target(model.tokenizer, answer, room), pair["pair_id"]))
    return DevEvaluation(model, rows, CONTEXT_ANSWER)()["perplexity"]


def main(argv: list[str]) -> None:
    """Measures what the flags describe."""
    values = command.begin(argv)
    with command.errors_on_one_line("nothing was measured."):
        path, model = values.generator_dir, None
        if generator.is_model(path):
            model = generator.load_model(path, values.base_dir)
        session = GenerationSession.of(model) if model else GenerationSession.load(path)
        asked = dev_questions(values, session.prompt.num_contexts)
        metrics, listed = [], []
        pairs = [question.pair for question in asked]
        ways = {
            "present": [question.present for question in asked],
            "absent": [question.absent for question in asked],
            "closed_book": [[] for _ in asked],
        }
        for way, sources in ways.items():
            prompts = [
                answer_prompt(session.tokenizer, session.prompt, pair["question"], found)
                for pair, found in zip(pairs, sources, strict=True)
            ]
            answers = written(session, prompts)
            ours = scores(answers, prompts, pairs)
            room = session.prompt.answer_tokens
            quoted = [first_sentences(session.tokenizer, pair["answer"], room) for pair in pairs]
            ours["quoted_rouge_l"] = float(
                np.mean([rouge_l(pair["answer"], text) for pair, text in zip(pairs, quoted, strict=True)])
            )
            if model:
                ours["perplexity"] = perplexity(model, prompts, pairs, room)
            measuring.show(way, [(name, [value], "") for name, value in ours.items()])
            metrics += [measuring.metric(f"{way}_{name}", _UNITS.get(name, "share"), ours[name]) for name in ours]
            listed += [
                {"way": way, "question": pair["question"], "sources": prompt.sources, "answer": answer}
                for pair, prompt, answer in zip(pairs, prompts, answers, strict=True)
            ]
        if values.answers_file:
            files.write_text(values.answers_file, "\n".join(json.dumps(row, ensure_ascii=False) for row in listed))
    measuring.finish("grounding", ["tensorflow", "keras"], metrics)


if __name__ == "__main__":
    flags.DEFINE_string("model_dir", None, "Retriever, or a bare encoder folder.", required=True)
    flags.DEFINE_string("index_dir", None, "Index of prepared_dir that was built with it.", required=True)
    flags.DEFINE_string("prepared_dir", None, "The prepared folder.", required=True)
    flags.DEFINE_string("generator_dir", None, "Export, model, adapter or GGUF file.", required=True)
    flags.DEFINE_string("base_dir", None, "With an adapter: the model that it was trained on.")
    flags.DEFINE_integer("count", 60, "Dev questions.", lower_bound=1)
    flags.DEFINE_string("answers_file", None, "File to list questions, sources and answers in; default: none.")
    app.run(main)
