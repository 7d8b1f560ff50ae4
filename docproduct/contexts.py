"""Rows for the generator that answers from retrieved pairs: for each question its nearest pairs, without its own.

    python -m docproduct.contexts --model_dir=/tmp/model --index_dir=/tmp/index --prepared_dir=/tmp/prepared \
        --gpt2_dir=/tmp/gpt2 --tokens_dir=/tmp/contexts

Retrieval and prompts are those of serving: the index's and data_pipeline/prompts/answer_prompts.py's. A prompt never
holds what would give the answer away: the pair itself, pairs with an equal question or answer, pairs whose text holds
the right answer (unless that has fewer than six characters, such as "Yes.").
Train's questions see pairs of train only, dev's see all. With --alone each of train's questions has a row without
retrieved pairs, too, which is shorter; --context_share gives the longer ones to some of the questions only. Ends with
one line of JSON.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from absl import app, flags, logging
from tqdm import tqdm

from data_pipeline import cleaning, splits
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.folders.token_folder import CONTEXT_ANSWER, KIND, Origin, TokenRow, same_folder, write
from data_pipeline.prompts import answer_prompts as prompts
from data_pipeline.prompts.answer_prompts import PromptSettings
from data_pipeline.rows import SIDES
from data_pipeline.settings import define_flags, flag_values
from data_pipeline.token_rows.pair_rows import PairRows
from data_pipeline.tokenizers import BytePairs
from docproduct.index import Hit, Index
from docproduct.layers.precision import PRECISIONS
from docproduct.systems import generator
from docproduct.systems.retriever import Side, TrainedRetriever
from docproduct.training.devices import set_up

CONTEXTS_FILE = "contexts.parquet"
_FETCHED = (4, 32)  # hits that are looked at for each context: at first, and at most
_TOGETHER = 256  # questions
_COLUMNS = ["pair_id", "question", "answer", "split"]
_TELLING = 6  # characters: shorter answers, such as "Yes." and "no", stand in many texts and tell nothing there


def gives_away(hit: Hit, pair_id: int, question: str, answer: str) -> bool:
    """Returns whether a retrieved pair may not stand in the prompt of a pair that is trained on or scored."""
    right = cleaning.normal_form(answer)
    return (
        hit.pair_id == pair_id
        or cleaning.normal_form(hit.question) == cleaning.normal_form(question)
        or cleaning.normal_form(hit.answer) == right
        or (len(right) >= _TELLING and right in cleaning.normal_form(f"{hit.question}\n{hit.answer}"))
    )


class ContextFinder:
    """Finds the pairs that stand in a training prompt."""

    def __init__(self, index: Index, num_contexts: int, search_by: Side = "answer"):
        """Opens the search.

        Raises:
          ValueError: the index has too few answers.
        """
        if index.num_answers <= num_contexts:
            raise ValueError(
                f"The index has {index.num_answers} answers; {num_contexts} contexts beside a question's own answer "
                f"need {num_contexts + 1} or more. Give a smaller --num_contexts, or index more pairs."
            )
        self._index, self._num_contexts, self._search_by = index, num_contexts, search_by

    def __call__(
        self, query_vectors: np.ndarray, pairs: Sequence[dict[str, Any]], allowed: frozenset[int] | None = None
    ) -> list[list[Hit]]:
        """Returns for each question the nearest pairs that give nothing away, the nearest first.

        Args:
          query_vectors: [Q, D] float32, of the questions.
          pairs: their pair_id, question and answer.
          allowed: pair_ids that may be taken; None: all.
        """
        fetched, most = (min(factor * self._num_contexts, self._index.num_answers) for factor in _FETCHED)
        found: list[list[Hit]] = [[] for _ in pairs]
        short = list(range(len(pairs)))
        while short:
            questions = [pairs[i]["question"] for i in short]
            of_questions = self._index.search_many(query_vectors[short], fetched, self._search_by, questions)
            for i, of_question in zip(short, of_questions, strict=True):
                kept = (hit for hit in of_question.hits if allowed is None or hit.pair_id in allowed)
                own = [pairs[i][name] for name in ("pair_id", "question", "answer")]
                found[i] = [hit for hit in kept if not gives_away(hit, *own)][: self._num_contexts]
            short = [i for i in short if len(found[i]) < self._num_contexts] if fetched < most else []
            fetched = min(2 * fetched, most)
        return found


def make(
    retriever: TrainedRetriever,
    index: Index,
    prepared: PreparedFolder,
    tokenizer: BytePairs,
    settings: PromptSettings,
    tokens_dir: str,
    search_by: Side = "answer",
    overwrite: bool = False,
    context_share: float = 1.0,
    alone: bool = False,
) -> dict[str, Any]:
    """Writes a token folder of task context_answer, unless the same one is there.

    contexts.parquet in it says which pairs were found for which prompt; the nearest stand in it, as many as have room.

    Args:
      retriever: encodes the questions.
      index: of the same pairs.
      prepared: the pairs.
      tokenizer: of the GPT-2; the markers are added.
      settings: of the prompts; one context or more.
      tokens_dir: the folder to write.
      search_by: see `Index.search`.
      overwrite: replace `tokens_dir`.
      context_share: share of train's questions that have a row with retrieved pairs.
      alone: whether each of train's questions has a row without them.

    Returns:
      The manifest.

    Raises:
      ValueError: no context is asked for, the share is out of range, the index has too few answers, or holds other
        pairs; or another token folder is there, and `overwrite` is off.
      FileExistsError: `tokens_dir` is something else.
    """
    if not settings.num_contexts:
        raise ValueError("num_contexts is 0; expected 1 or more. Without contexts, train with --task=closed_book.")
    if not 0 < context_share <= 1:
        raise ValueError(f"context_share is {context_share}; expected above 0, and at most 1.")
    if index.manifest["prepared"] != prepared.fingerprint():
        raise ValueError(f"The index was built from other pairs than {prepared.path}. Build it from them.")
    tokenizer = prompts.with_markers(tokenizer)
    described = {"prompt": dataclasses.asdict(settings), "search_by": search_by, "index": index.manifest["settings"]}
    described |= {"context_share": context_share, "alone": alone}
    made_of = {"prepared": prepared.fingerprint(), "encoder": retriever.fingerprint()}
    origin = Origin(CONTEXT_ANSWER, described, made_of)
    there = None if overwrite else same_folder(tokens_dir, origin, tokenizer)
    if there is not None:
        return there
    files.check_free(tokens_dir, overwrite, KIND)  # before the work
    find = ContextFinder(index, settings.num_contexts, search_by)
    pairs = prepared.pairs(_COLUMNS).to_pylist()
    vectors = retriever.embed_prepared(prepared, "question", progress="questions").head  # [N, D]
    of_train = frozenset(pair["pair_id"] for pair in pairs if pair["split"] == splits.TRAIN)
    rows_of = {split: [row for row, pair in enumerate(pairs) if pair["split"] == split] for split in splits.SPLITS}
    train = rows_of[splits.TRAIN]
    drawn = np.random.default_rng(0).permutation(len(train))[: round(context_share * len(train))]
    if train and not drawn.size:
        raise ValueError(f"context_share is {context_share}: of {len(train)} questions of train none is drawn.")
    if not alone and drawn.size < len(train):
        logging.warning(
            "%d of train's %d questions are left out. --alone keeps them.", len(train) - drawn.size, len(train)
        )
    asked_of = rows_of | {splits.TRAIN: [train[i] for i in np.sort(drawn)]}
    hits: dict[int, list[Hit]] = {}
    with tqdm(desc="contexts", total=sum(map(len, asked_of.values())), unit=" questions") as bar:
        for split, asked in asked_of.items():
            for few in (asked[start : start + _TOGETHER] for start in range(0, len(asked), _TOGETHER)):
                found = find(vectors[few], [pairs[row] for row in few], of_train if split == splits.TRAIN else None)
                hits |= zip(few, found, strict=True)
                bar.update(len(few))
    maker = PairRows(tokenizer, settings)

    def rows(split: str) -> Iterator[TokenRow]:
        for row in rows_of[split]:
            own = [pairs[row][name] for name in ("pair_id", "question", "answer")]
            made = [maker.row(*own, [(hit.question, hit.answer) for hit in hits[row]])] if row in hits else []
            made += [maker.row(*own)] if alone and split == splits.TRAIN else []
            yield from filter(None, made)

    columns = {
        "pair_id": [pairs[row]["pair_id"] for row in hits],
        "context_pair_ids": [[hit.pair_id for hit in found] for found in hits.values()],
        "context_scores": [[hit.score for hit in found] for found in hits.values()],
    }
    of_split = {split: rows(split) for split in splits.SPLITS}
    tables = {CONTEXTS_FILE: pa.table(columns)}
    return write(tokens_dir, origin, tokenizer, of_split, overwrite, maker.counts, tables)


def _define_flags() -> None:
    flags.DEFINE_string("model_dir", None, "Trained retriever, or a bare encoder folder.", required=True)
    flags.DEFINE_string("index_dir", None, "The index that was built with it, of prepared_dir.", required=True)
    flags.DEFINE_string("prepared_dir", None, "The prepared folder.", required=True)
    flags.DEFINE_string("gpt2_dir", None, "The GPT-2 that will be trained: its tokenizer is used.", required=True)
    flags.DEFINE_string("tokens_dir", None, "The token folder to write.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace tokens_dir.")
    define_flags(PromptSettings, but=("window",))
    window_help = f"Tokens of prompt and answer; default: {PromptSettings.window}, or what the GPT-2 takes."
    flags.DEFINE_integer("window", None, window_help)
    flags.DEFINE_enum("search_by", "answer", SIDES, "What the question is compared with.")
    flags.DEFINE_float(
        "context_share",
        1.0,
        "Share of train's questions that have a row with retrieved pairs; without --alone the others are left out.",
    )
    flags.DEFINE_bool("alone", False, "Each of train's questions has a row without retrieved pairs, too.")
    flags.DEFINE_enum("precision", "auto", PRECISIONS, "Of the encoder; auto: bfloat16 where it is fast.")


def main(argv: list[str]) -> None:
    """Makes what the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    logging.set_verbosity(logging.INFO)
    values = flags.FLAGS
    set_up()
    try:
        most = generator.sizes(values.gpt2_dir).max_positions
        window = min(PromptSettings.window, most) if values.window is None else values.window
        if window > most:
            raise ValueError(f"window is {window}; expected at most {most}, the positions of {values.gpt2_dir}.")
        settings = PromptSettings(window=window, **flag_values(PromptSettings, but=("window",)))
        prepared, tokenizer = PreparedFolder(values.prepared_dir), BytePairs.load(values.gpt2_dir)
        retriever = TrainedRetriever.load_for_many(values.model_dir, values.precision)
        index = Index(values.index_dir, retriever)
        manifest = make(
            retriever,
            index,
            prepared,
            tokenizer,
            settings,
            values.tokens_dir,
            values.search_by,
            values.overwrite,
            values.context_share,
            values.alone,
        )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: nothing was written.")
    print(json.dumps({"tokens_dir": values.tokens_dir, "counts": manifest["counts"]} | manifest["shortened"]))


if __name__ == "__main__":
    _define_flags()
    app.run(main)
