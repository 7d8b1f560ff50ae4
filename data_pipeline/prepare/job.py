"""The job that all parts of one run of preparing share."""

import dataclasses
import os

from data_pipeline.folders.prepared_settings import PrepareSettings
from data_pipeline.schemas import Schema

HtmlColumns = dict[str, str]  # {field: kind of HTML}, for those fields of a file whose HTML is turned into text


@dataclasses.dataclass(frozen=True)
class Job:
    """A corpus to prepare.

    Attributes:
      settings: the completed settings, see `PrepareSettings.completed`.
      schema: the schema of the rows.
      state: hash of everything that decides the content.
      work: folder of unfinished files.
      html: the columns of each input file whose HTML is turned into text.
    """

    settings: PrepareSettings
    schema: Schema
    state: str
    work: str
    html: dict[str, HtmlColumns]

    def chunk_path(self, number: int) -> str:
        """Returns the path of a chunk."""
        return os.path.join(self.work, f"chunk-{number:06d}.arrow")
