"""The questions that a retriever is scored on: dev by source, train questions that are held out, and other data.

A set is scored on its own, and what is chosen on dev is chosen on the mean over the sets. A model that gains on one
kind of question and forgets the others does not look better.

    Q questions, C candidates
"""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from data_pipeline import beir, cleaning, splits
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder

DEV = "dev"  # name of the only set
_OTHER = "other"
_LEAST = 30  # questions of a set of its own
_HELD_OUT_SHARE = 0.05  # of the train questions of a source that dev lacks
_MOST_HELD_OUT = 200  # questions


@dataclasses.dataclass(frozen=True)
class DevQuestions:
    """Questions and the candidates among which their answers are looked for.

    Attributes:
      questions: Q rows with the column "question".
      answers: C rows with the columns "answer" and "question", the question that it was given to. In a prepared folder,
        questions and answers also have "row", their row in pairs.parquet.
      relevant: of each question, the candidates that answer it.
      set_names: of each question, the set that it belongs to.
    """

    questions: pa.Table
    answers: pa.Table
    relevant: Sequence[Sequence[int]]
    set_names: np.ndarray

    def relevant_rows(self, questions: Sequence[int]) -> np.ndarray:
        """Returns which candidates answer the questions, [q, C] bool."""
        relevant = np.zeros((len(questions), len(self.answers)), bool)
        for row, question in enumerate(questions):
            relevant[row, self.relevant[question]] = True
        return relevant


def of_prepared(prepared: PreparedFolder, num_train_answers: int, held_out: np.ndarray) -> DevQuestions:
    """Returns dev's questions and those that are held out, with their answers and a fixed sample of train's.

    Equal answers are one candidate; a question's relevant candidates are the answers of all its pairs.

    Args:
      prepared: the pairs.
      num_train_answers: size of the sample.
      held_out: rows of train that are not trained on, [H] int; see `held_out_rows`.
    """
    table = prepared.table(["question", "answer", "question_group", "answer_group", "split", "source"])
    table = table.append_column("row", pa.array(range(len(table))))
    names = ("split", "question_group", "answer_group", "source")
    splits_of_rows, question_groups, answer_groups, sources = (table[name].to_numpy() for name in names)
    dev = np.concatenate([np.flatnonzero(splits_of_rows == splits.DEV), held_out])
    train = np.setdiff1d(np.flatnonzero(splits_of_rows == splits.TRAIN), held_out)
    # Groups are hashes: the lowest are a random sample, and the same one in every run.
    _, first = np.unique(answer_groups[train], return_index=True)  # groups ascending
    candidates = np.concatenate([dev, train[first[:num_train_answers]]])
    _, asked, question_of_row = np.unique(question_groups[dev], return_index=True, return_inverse=True)  # [Q], [dev]
    # Candidates with an equal answer are one: the first, which is dev's if there is one.
    _, answered, answer_of_row = np.unique(answer_groups[candidates], return_index=True, return_inverse=True)
    relevant: list[list[int]] = [[] for _ in asked]
    for question, answer in zip(question_of_row, answer_of_row[: len(dev)], strict=True):
        relevant[question].append(int(answer))
    questions, answers = (table.take(pa.array(rows)) for rows in (dev[asked], candidates[answered]))
    return DevQuestions(questions, answers, relevant, by_source(sources[dev[asked]]))


def of_beir(name: str, folder: str) -> DevQuestions:
    """Returns the questions of a folder in BEIR layout; its split is dev, the only one, or test.

    Documents with equal text are one candidate; any grade above 0 is relevant.

    Raises:
      ValueError: no question has a relevant document, or the folder is damaged.
      FileNotFoundError: a file is missing.
    """
    has_dev = os.path.isfile(os.path.join(folder, "qrels", f"{splits.DEV}.tsv"))
    data = beir.read(folder, splits.DEV if has_dev else beir.default_split(folder))
    groups = {key: cleaning.group(cleaning.clean(text)) for key, text in data.corpus.items()}
    place = {group: i for i, group in enumerate(dict.fromkeys(groups.values()))}
    answers = dict.fromkeys(place, "")
    answers |= {groups[key]: data.corpus[key] for key in reversed(data.corpus)}  # the first of equal texts
    relevant = {
        query: sorted({place[groups[document]] for document, grade in grades.items() if grade > 0})
        for query, grades in data.qrels.items()
    }
    relevant = {query: documents for query, documents in relevant.items() if documents}
    if not relevant:
        raise ValueError(f"{folder} has no question with a relevant document. Expected grades above 0 in its qrels.")
    return DevQuestions(
        pa.table({"question": [cleaning.clean(data.queries[query]) for query in relevant]}),
        pa.table({"answer": list(map(cleaning.clean, answers.values())), "question": [""] * len(answers)}),
        list(relevant.values()),
        np.full(len(relevant), name, object),
    )


def named_folders(dev_sets: Sequence[str]) -> dict[str, str]:
    """Returns {name: folder} of settings such as `forum=folders/forum`.

    Raises:
      ValueError: one has no name or no folder, or a name comes twice.
    """
    parts = [entry.partition("=") for entry in dev_sets]
    names = [name for name, _, _ in parts]
    if not all(name and folder for name, _, folder in parts) or len(set(names)) < len(names):
        raise ValueError(
            f"dev_sets is {','.join(dev_sets)}; expected name=folder with commas between and every name once, such as "
            "forum=data/forum,news=data/news."
        )
    return {name: folder for name, _, folder in parts}


def fingerprint(dev_sets: Sequence[str]) -> str | None:
    """Returns a hash of the names and the files of dev sets; None without any."""
    paths = {
        name: sorted(os.path.join(root, file) for root, _, found in os.walk(folder) for file in found)
        for name, folder in named_folders(dev_sets).items()
    }
    contents = {name: [files.sha256(path) for path in of_set] for name, of_set in paths.items()}
    return files.fingerprint([contents]) if contents else None


def by_source(sources: np.ndarray) -> np.ndarray:
    """Returns the set of each question from its source, [Q].

    Sources with fewer than 30 questions are one set, `other`; if that has fewer than 30, too, its questions belong to
    the largest set. One set alone is called dev.
    """
    names, counts = np.unique(sources, return_counts=True)
    sets = {name: name if count >= _LEAST else _OTHER for name, count in zip(names, counts, strict=True)}
    num_others = sum(count for name, count in zip(names, counts, strict=True) if sets[name] == _OTHER)
    if num_others < _LEAST:
        largest = names[np.argmax(counts)]
        sets = {name: largest if of_set == _OTHER else of_set for name, of_set in sets.items()}
    if len(set(sets.values())) == 1:
        sets = dict.fromkeys(sets, DEV)
    return np.array([sets[source] for source in sources], object)


def held_out_rows(prepared: PreparedFolder) -> np.ndarray:
    """Returns the rows of train questions that stand in for sources that dev lacks, [H] int; they are not trained on.

    A source of train without dev questions is held out in part (5 % of its questions, at most 200), if dev has other
    sources of train and the part is large enough to score. Otherwise a table that is prepared with another file as its
    dev would show only whether the model learns that file's kind of question.
    """
    table = prepared.table(["split", "source", "question_group"])
    names = ("split", "source", "question_group")
    splits_of_rows, sources, groups = (table[name].to_numpy() for name in names)
    train = splits_of_rows == splits.TRAIN
    of_dev, of_train = set(sources[splits_of_rows == splits.DEV]), set(sources[train])
    if not of_dev & of_train:  # each file is a source of its own
        return np.empty(0, int)
    held_out = [np.empty(0, np.int64)]
    for source in sorted(of_train - of_dev):
        questions = np.unique(groups[train & (sources == source)])  # hashes: the lowest are a random sample
        count = min(_MOST_HELD_OUT, int(_HELD_OUT_SHARE * len(questions)))
        held_out.append(questions[: count if count >= _LEAST else 0])
    return np.flatnonzero(train & np.isin(groups, np.concatenate(held_out)))
