"""Training rows for a generator that answers from retrieved pairs: each question with its nearest pairs.

    python -m docproduct.contexts --model_dir=/tmp/model --index_dir=/tmp/index --prepared_dir=/tmp/prepared \
        --base_dir=/tmp/gpt2 --tokens_dir=/tmp/contexts

Retrieval and prompts are those of serving: the index's and data_pipeline/prompts/answer_prompts.py's. A prompt never
holds what would give its answer away: the pair itself, pairs with an equal question or answer, and pairs whose text
contains the right answer (unless that is shorter than six characters, such as "Yes."). Rows for chat models, which
learn to copy from numbered sources and to refuse, are an exception: --own_share, --joined_share, --unanswerable_share.
Passages of documents, which an index may hold beside the pairs, are left out.

Questions of the train split see pairs of that split only; questions of dev see all pairs. With --alone each train
question also has a row without retrieved pairs, which is shorter; --context_share gives the longer rows to some of the
questions only. Ends with one line of JSON.
"""

import dataclasses
import json
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
from data_pipeline.prompts.answer_prompts import PromptSettings, with_markers
from data_pipeline.schemas import SIDES
from data_pipeline.settings import Settings, define_flags, flag_values, setting
from data_pipeline.tokenizers import CausalTokenizer
from docproduct import command
from docproduct.context_rows import ContextRows, KindShares, OtherQuestions
from docproduct.index import Hit, Index
from docproduct.index.checks import check_prepared
from docproduct.index.reranking import DEPTH, HitReranker
from docproduct.layers.precision import PRECISIONS
from docproduct.systems import generator
from docproduct.systems.retriever import Side, TrainedRetriever

CONTEXTS_FILE = "contexts.parquet"
_FETCHED = (4, 32)  # hits to look at for each context: at first, and at most
_TOGETHER = 256  # questions
_COLUMNS = ["pair_id", "question", "answer", "split"]
_TELLING = 6  # characters: shorter answers, such as "Yes." and "no", stand in many texts and tell nothing there


@dataclasses.dataclass(frozen=True)
class ContextSettings(Settings):
    """Which rows are made.

    Attributes:
      prompt: size of the prompts; one context or more.
      kinds: shares of the questions with rows for chat models.
    """

    prompt: PromptSettings = PromptSettings()
    kinds: KindShares = KindShares()
    search_by: Side = setting("answer", "Side of the stored pairs that questions are compared with.", choices=SIDES)
    context_share: float = setting(
        1.0,
        "Share of train's questions that have a row with retrieved pairs; without --alone the others are left out.",
        above=0,
        most=1,
    )
    dev_questions: int = setting(0, "Questions of dev with a row, evenly spaced; 0: all.", least=0)
    alone: bool = setting(False, "Make a row without retrieved pairs for each of train's questions, too.")


def gives_away(hit: Hit, pair_id: int, question: str, answer: str) -> bool:
    """Returns whether a retrieved pair must not stand in the prompt of a pair that is trained on or scored."""
    right = cleaning.normal_form(answer)
    return (
        hit.pair_id == pair_id
        or cleaning.normal_form(hit.question) == cleaning.normal_form(question)
        or cleaning.normal_form(hit.answer) == right
        or (len(right) >= _TELLING and right in cleaning.normal_form(f"{hit.question}\n{hit.answer}"))
    )


class ContextFinder:
    """Finds the pairs that stand in a training prompt."""

    def __init__(self, index: Index, num_contexts: int, search_by: Side = "answer", rerank: HitReranker | None = None):
        """Takes the index to search, and what orders its first hits.

        Raises:
          ValueError: the index has too few answers.
        """
        if index.num_answers <= num_contexts:
            raise ValueError(
                f"The index has {index.num_answers} answers; {num_contexts} contexts beside a question's own answer "
                f"need {num_contexts + 1} or more. Give a smaller --num_contexts, or index more pairs."
            )
        self._index, self._num_contexts, self._search_by, self._rerank = index, num_contexts, search_by, rerank

    def __call__(
        self, query_vectors: np.ndarray, pairs: Sequence[dict[str, Any]], allowed: frozenset[int] | None = None
    ) -> list[list[Hit]]:
        """Returns for each question the nearest pairs that give nothing away, the nearest first.

        Args:
          query_vectors: [Q, D] float32, of the questions.
          pairs: pair_id, question and answer of each.
          allowed: pair_ids that may be taken; default: all.
        """
        depth = self._rerank.depth if self._rerank else 0
        fetched, most = (min(max(factor * self._num_contexts, depth), self._index.num_answers) for factor in _FETCHED)
        contexts: list[list[Hit]] = [[] for _ in pairs]
        short = list(range(len(pairs)))
        while short:
            questions = [pairs[i]["question"] for i in short]
            results = self._index.search_many(query_vectors[short], fetched, self._search_by, questions)
            if self._rerank:
                results = self._rerank(questions, results)
            for i, result in zip(short, results, strict=True):
                # A passage of a document has no question.
                hits = (hit for hit in result.hits if hit.question and (allowed is None or hit.pair_id in allowed))
                own = [pairs[i][name] for name in ("pair_id", "question", "answer")]
                contexts[i] = [hit for hit in hits if not gives_away(hit, *own)][: self._num_contexts]
            short = [i for i in short if len(contexts[i]) < self._num_contexts] if fetched < most else []
            fetched = min(2 * fetched, most)
        return contexts


def make(
    retriever: TrainedRetriever,
    index: Index,
    prepared: PreparedFolder,
    tokenizer: CausalTokenizer,
    settings: ContextSettings,
    tokens_dir: str,
    overwrite: bool = False,
    rerank: HitReranker | None = None,
) -> dict[str, Any]:
    """Writes a token folder of task context_answer, unless the same folder exists already.

    Its contexts.parquet lists the retrieved pairs of each prompt. The prompt holds the nearest of them that fit.

    Args:
      retriever: encodes the questions.
      index: of the same pairs.
      prepared: the pairs.
      tokenizer: of the GPT-2; the markers are added.
      settings: which rows are made.
      tokens_dir: the folder to write.
      overwrite: whether to replace `tokens_dir`.
      rerank: orders the first hits of each search.

    Returns:
      The manifest.

    Raises:
      ValueError: no context is asked for, or the index has too few answers or holds other pairs; or another token
        folder is there, and `overwrite` is off.
      FileExistsError: `tokens_dir` is something else.
    """
    if not settings.prompt.num_contexts:
        raise ValueError("num_contexts is 0; expected 1 or more. Without contexts, train with --task=closed_book.")
    check_prepared(index.manifest, prepared)
    tokenizer = with_markers(tokenizer)
    made_of = {"prepared": prepared.fingerprint(), "encoder": retriever.fingerprint()}
    if rerank:
        made_of["reranker"] = f"{rerank.reranker.fingerprint()}, {rerank.depth} hits, weight {rerank.reranker.weight}"
    origin = Origin(CONTEXT_ANSWER, _described(settings) | {"index": index.manifest["settings"]}, made_of)
    if not overwrite and (existing := same_folder(tokens_dir, origin, tokenizer)) is not None:
        return existing
    files.check_free(tokens_dir, overwrite, KIND)  # before the work
    pairs = prepared.table(_COLUMNS).to_pylist()
    questions = _drawn_questions(pairs, settings)
    find = ContextFinder(index, settings.prompt.num_contexts, settings.search_by, rerank)
    vectors = retriever.embed_prepared(prepared, "question", progress="questions").head  # [N, D]
    contexts = _find_all(find, vectors, pairs, questions)
    maker = ContextRows(tokenizer, settings.prompt, settings.kinds, OtherQuestions(pairs))
    of_split = {split: _rows(maker, split, pairs, contexts, settings.alone) for split in splits.SPLITS}
    tables = {CONTEXTS_FILE: _table(maker, pairs, contexts)}
    return write(tokens_dir, origin, tokenizer, of_split, overwrite, maker.counts, tables)


def _described(settings: ContextSettings) -> dict[str, Any]:
    """Returns the settings as a manifest stores them; newer ones only where they are on."""
    described = dataclasses.asdict(settings)
    newer = {"kinds": dataclasses.asdict(KindShares()), "dev_questions": 0}
    described = {name: value for name, value in described.items() if name not in newer or value != newer[name]}
    return described | ({"other_questions": True} if settings.kinds.own_share else {})  # rows without them were others


def _drawn_questions(pairs: Sequence[dict[str, Any]], settings: ContextSettings) -> dict[str, list[int]]:
    """Returns the rows of pairs, by split, whose questions get retrieved pairs.

    Raises:
      ValueError: the share is too small for any question of train.
    """
    rows = {split: [row for row, pair in enumerate(pairs) if pair["split"] == split] for split in splits.SPLITS}
    train = rows[splits.TRAIN]
    drawn = np.random.default_rng(0).permutation(len(train))[: round(settings.context_share * len(train))]
    if train and not drawn.size:
        raise ValueError(
            f"context_share is {settings.context_share}: of {len(train)} questions of train none is drawn."
        )
    if not settings.alone and drawn.size < len(train):
        left_out = len(train) - drawn.size
        logging.warning("%d of train's %d questions are left out. --alone keeps them.", left_out, len(train))
    dev = rows[splits.DEV]
    if settings.dev_questions:
        rows[splits.DEV] = [dev[i] for i in np.unique(np.linspace(0, len(dev) - 1, settings.dev_questions).astype(int))]
    return rows | {splits.TRAIN: [train[i] for i in np.sort(drawn)]}


def _find_all(
    find: ContextFinder, vectors: np.ndarray, pairs: Sequence[dict[str, Any]], questions: dict[str, list[int]]
) -> dict[int, list[Hit]]:
    """Returns the retrieved pairs of each question, by its row; those of train are of train."""
    of_train = frozenset(pair["pair_id"] for pair in pairs if pair["split"] == splits.TRAIN)
    contexts: dict[int, list[Hit]] = {}
    with tqdm(desc="contexts", total=sum(map(len, questions.values())), unit=" questions") as bar:
        for split, rows in questions.items():
            for few in (rows[start : start + _TOGETHER] for start in range(0, len(rows), _TOGETHER)):
                allowed = of_train if split == splits.TRAIN else None
                contexts |= zip(few, find(vectors[few], [pairs[row] for row in few], allowed), strict=True)
                bar.update(len(few))
    return contexts


def _rows(
    maker: ContextRows, split: str, pairs: Sequence[dict[str, Any]], contexts: dict[int, list[Hit]], alone: bool
) -> Iterator[TokenRow]:
    """Yields the token rows of a split, in the order of its pairs."""
    for row, pair in enumerate(pairs):
        if pair["split"] != split:
            continue
        made = [maker.row(pair, contexts[row])] if row in contexts else []
        made += [maker.alone(pair)] if alone and split == splits.TRAIN else []
        yield from filter(None, made)


def _table(maker: ContextRows, pairs: Sequence[dict[str, Any]], contexts: dict[int, list[Hit]]) -> pa.Table:
    """Returns what contexts.parquet holds."""
    return pa.table(
        {
            "pair_id": [pairs[row]["pair_id"] for row in contexts],
            "context_pair_ids": [[hit.pair_id for hit in hits] for hits in contexts.values()],
            "kind": [maker.kind(pairs[row], hits) for row, hits in contexts.items()],
            "context_scores": [[hit.score for hit in hits] for hits in contexts.values()],
        }
    )


def _define_flags() -> None:
    flags.DEFINE_string("model_dir", None, "Trained retriever, or a bare encoder folder.", required=True)
    flags.DEFINE_string("index_dir", None, "Index of prepared_dir that was built with it.", required=True)
    flags.DEFINE_string("prepared_dir", None, "The prepared folder.", required=True)
    flags.DEFINE_string("base_dir", None, "Model to train, or to take the tokenizer from.", required=True)
    flags.DEFINE_alias("gpt2_dir", "base_dir")  # its former name
    flags.DEFINE_string("tokens_dir", None, "Token folder to write.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace tokens_dir.")
    define_flags(PromptSettings, but=("window", "history"))
    window_help = f"Tokens of prompt and answer; default: {PromptSettings.window}, or what the model takes."
    flags.DEFINE_integer("window", None, window_help)
    define_flags(ContextSettings)
    define_flags(KindShares)
    flags.DEFINE_string("reranker_dir", None, "Reranker that orders the first hits; default: none.")
    flags.DEFINE_integer("rerank_depth", DEPTH, "Number of first hits that it orders.", 2)
    flags.DEFINE_enum("precision", "auto", PRECISIONS, "Of both encoder and reranker; auto: bfloat16 where it is fast.")


def _make(values: flags.FlagValues) -> dict[str, Any]:
    """Makes what the flags describe."""
    most = generator.window_of(values.base_dir)
    window = min(PromptSettings.window, most) if values.window is None else values.window
    if window > most:
        raise ValueError(f"window is {window}; expected at most {most}, the positions of {values.base_dir}.")
    prompt = PromptSettings(window=window, **flag_values(PromptSettings, but=("window", "history")))
    settings = ContextSettings(prompt, KindShares(**flag_values(KindShares)), **flag_values(ContextSettings))
    prepared, tokenizer = PreparedFolder(values.prepared_dir), generator.tokenizer_of(values.base_dir)
    retriever = TrainedRetriever.load_for_many(values.model_dir, values.precision)
    index = Index(values.index_dir, retriever)
    rerank = None
    if values.reranker_dir:
        depth, precision = values.rerank_depth, values.precision
        rerank = HitReranker.load(values.reranker_dir, index, retriever, depth, precision=precision)
    return make(retriever, index, prepared, tokenizer, settings, values.tokens_dir, values.overwrite, rerank)


def main(argv: list[str]) -> None:
    """Makes what the flags describe, and prints the counts."""
    values = command.begin(argv)
    with command.errors_on_one_line():
        manifest = _make(values)
    print(json.dumps({"tokens_dir": values.tokens_dir, "counts": manifest["counts"]} | manifest["shortened"]))


if __name__ == "__main__":
    _define_flags()
    app.run(main)
