"""Users' feedback: ratings of answers, and questions without an answer, as lines of a file that the operator names."""

import datetime
import errno
import json
import os
import threading
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from docproduct.answering import Answer
from docproduct.search.changes import NotStoredError


class FeedbackRequest(BaseModel):
    """Whether an answer helped."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1, examples=["What helps against a cough?"])
    id: str = Field(min_length=1, max_length=200, description="The id of the source that was shown first.")
    helpful: bool


class FeedbackResponse(BaseModel):
    """The rating is in the file."""

    status: Literal["stored"] = "stored"


class FeedbackFile:
    """Appends lines of JSON to a file, each with `time` and `kind`; `docproduct.feedback` reads them.

    rating      question, id of the first source, helpful
    refused     question, and the ids of the nearest sources
    """

    def __init__(self, path: str):
        """Opens the file, which is made if it is missing.

        Raises:
          OSError: it cannot be written.
        """
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)  # users' questions are private
        except OSError as error:
            raise OSError(
                f"{path} cannot be written ({error.strerror}). Give another --feedback_file, or leave it out."
            ) from error
        self._path, self._lock = path, threading.Lock()

    def rating(self, question: str, source_id: str, helpful: bool) -> None:
        """Adds a rating.

        Raises:
          NotStoredError: the disk is full, or fails.
        """
        self._add("rating", question=question, id=source_id, helpful=helpful)

    def refused(self, answer: Answer) -> None:
        """Adds a question without an answer.

        Raises:
          NotStoredError: the disk is full, or fails.
        """
        self._add("refused", question=answer.question, ids=[hit.pair_id for hit in answer.hits])

    def _add(self, kind: str, **fields: Any) -> None:
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        line = json.dumps({"time": time, "kind": kind, **fields}, ensure_ascii=False) + "\n"
        try:
            with self._lock:
                self._append(line.encode())
                os.fsync(self._file)
        except OSError as error:
            raise NotStoredError(f"{self._path} cannot be written ({error.strerror}).") from error

    def _append(self, line: bytes) -> None:
        """Writes a line at once, as other processes may write to the file, too; takes back half a line."""
        num_written = os.write(self._file, line)
        if num_written < len(line):
            end = os.lseek(self._file, 0, os.SEEK_CUR)
            if os.fstat(self._file).st_size == end:  # nobody has written behind it
                os.ftruncate(self._file, end - num_written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)
