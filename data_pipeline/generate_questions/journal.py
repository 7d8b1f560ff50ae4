"""The journal of a run: a line of JSON before every call, and one after it. A killed run goes on from it.

    {"event": "call", "call": 7, "passage_id": ..., "input_tokens": ..., "output_tokens": ..., "cost": ...}
    {"event": "answer", "call": 7, "passage_id": ..., ..., "answer": "...", "finished": true}

The first holds the most that the call can take. A call without a second line was in flight when the run was killed:
nobody knows what it took, so that the most is counted. Other events are "error", after which the passage is asked
again, and "refused", after which it is not.
"""

import collections
import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from typing import IO, Any

from data_pipeline.folders import files
from data_pipeline.generate_questions.budget import Usage

JOURNAL_FILE = "journal.jsonl"
CALL, ANSWER, ERROR, REFUSED = "call", "answer", "error", "refused"
LOST = "the run was killed during the call"


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back for a passage.

    Attributes:
      text: the answer; of a refused call, why it was refused.
      finished: whether the model ended the answer.
      refused: whether the model was not asked, as the call was refused.
    """

    text: str
    finished: bool = True
    refused: bool = False


class Journal:
    """An open journal.

    Attributes:
      answers: the last answer to each passage, by its id.
      spent: what all calls took.
      assumed: the part of it that is the most that calls can take, as nobody knows what they took.
      num_calls: calls, those that failed included.
      errors: {reason: calls without an answer}.
    """

    def __init__(self, file: IO[bytes], path: str):
        """Reads what is there."""
        self._file = file
        self.answers: dict[str, Answer] = {}
        self.spent, self.assumed, self.num_calls = Usage(), Usage(), 0
        self.errors: collections.Counter[str] = collections.Counter()
        waiting: dict[int, Usage] = {}
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
                usage = Usage(*(entry[name] for name in ("input_tokens", "output_tokens", "cost")))
                if entry["event"] == CALL:
                    waiting[entry["call"]] = usage
                    self.num_calls = max(self.num_calls, entry["call"])
                else:
                    del waiting[entry["call"]]
                    self._count(entry, usage)
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path} line {number} is damaged ({error!r}). Expected the lines that an earlier run wrote. Put "
                    "the file back as it was, or give another --output_dir."
                ) from error
        for most in waiting.values():
            self.spent, self.assumed = self.spent + most, self.assumed + most
            self.errors[LOST] += 1

    def begin(self, passage_id: str, most: Usage) -> int:
        """Writes that a call begins, and the most that it can take; returns its number."""
        self.num_calls += 1
        self._write({"event": CALL, "call": self.num_calls, "passage_id": passage_id}, most)
        return self.num_calls

    def end(self, event: str, call: int, passage_id: str, used: Usage, assumed: bool = False, **content: Any) -> None:
        """Writes what became of a call; returns when it is on the disk.

        Args:
          event: ANSWER, ERROR or REFUSED.
          call: its number.
          passage_id: its passage.
          used: what it took.
          assumed: whether that is the most that it can have taken.
          **content: `answer` and `finished`, or `reason`.
        """
        entry = {"event": event, "call": call, "passage_id": passage_id, "assumed": assumed, **content}
        line = self._write(entry, used)
        os.fsync(self._file.fileno())
        self._count(json.loads(line), used)  # as a resumed run reads it

    def _write(self, entry: dict[str, Any], usage: Usage) -> bytes:
        line = json.dumps(entry | dataclasses.asdict(usage), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        self._file.write(line)
        self._file.flush()
        return line

    def _count(self, entry: dict[str, Any], used: Usage) -> None:
        self.spent += used
        if entry["assumed"]:
            self.assumed += used
        if entry["event"] == ANSWER:
            self.answers[entry["passage_id"]] = Answer(entry["answer"], entry["finished"])
        elif entry["event"] == REFUSED:
            self.answers[entry["passage_id"]] = Answer(entry["reason"], refused=True)
        else:
            self.errors[entry["reason"]] += 1


@contextlib.contextmanager
def opened(folder: str) -> Iterator[Journal]:
    """Opens the journal of a folder while the block runs, for this process alone.

    A line that was cut off when a run was killed is removed.

    Raises:
      BlockingIOError: another process has opened it.
      ValueError: it is damaged.
    """
    path = os.path.join(folder, JOURNAL_FILE)
    with files.locked(folder), open(path, "a+b") as file:
        _remove_half_line(file)
        yield Journal(file, path)


def _remove_half_line(file: IO[bytes]) -> None:
    """Removes what stands behind the last line break, and goes to the beginning of the file."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 1))
    if end and file.read(1) != b"\n":
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
    file.seek(0)
