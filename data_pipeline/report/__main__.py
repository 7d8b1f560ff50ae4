"""The script: python -m data_pipeline.report; see the package."""

import dataclasses
import gc
import json
import os
import sys
from typing import Any

from absl import app, flags

from data_pipeline.corpora import PAIRS, Columns
from data_pipeline.corpora.choices import CHOICE_ROWS
from data_pipeline.corpora.dialogues import DIALOGUES
from data_pipeline.corpora.triage import TRIAGES
from data_pipeline.folders import files
from data_pipeline.report import ReportSettings, report
from data_pipeline.report.corpus import Corpus, PreparedCorpus, open_corpus, open_fitting
from data_pipeline.report.page import page
from data_pipeline.settings import define_flags, flag_values
from data_pipeline.tokenizers import load_tokenizer

_READERS = {"pairs": PAIRS, "triage": TRIAGES, "choices": CHOICE_ROWS, "dialogues": DIALOGUES}
_COLUMN_FLAGS = {name: f"{name}_column" for name in ("question", "answer", "source", "focus", "label", "title")}
_FITTING = (
    "The flags for columns are used for these files, too; if one names a column that they lack, theirs are recognized."
)
_TOP_FINDINGS = 5


def _define_flags() -> None:
    flags.DEFINE_enum("rows", "pairs", list(_READERS), "What the files hold, as in data_pipeline.prepare.")
    flags.DEFINE_multi_string("input", [], "Files, folders or patterns with rows, commas between.")
    flags.DEFINE_string("prepared_dir", None, "A folder that data_pipeline.prepare wrote, in place of --input.")
    flags.DEFINE_multi_string(
        "test_file", [], f"Files, or a prepared folder, that should not be in the corpus. {_FITTING}"
    )
    flags.DEFINE_multi_string("compare_with", [], f"Files, or a prepared folder, to show beside the corpus. {_FITTING}")
    flags.DEFINE_string("output", None, "The page to write (.html); the numbers go beside it (.json).", required=True)
    flags.DEFINE_string("tokenizer", None, "Model folder or vocabulary file; without it, lengths are in words.")
    define_flags(Columns, names=_COLUMN_FLAGS)
    define_flags(ReportSettings)


def _report(values: flags.FlagValues) -> dict[str, Any]:
    reader = _READERS[values.rows]
    columns = flag_values(Columns, names=_COLUMN_FLAGS)
    columns = Columns(**columns | {"delimiter": values.delimiter and values.delimiter.replace("\\t", "\t")})
    if values.prepared_dir:
        corpus: Corpus = PreparedCorpus(values.prepared_dir, reader.schema)
    else:
        corpus = open_corpus(values.input, reader, columns)
    whole = dataclasses.replace(columns, sample=0)
    test, other = (open_fitting(v, reader, whole) if v else None for v in (values.test_file, values.compare_with))
    tokenizer = load_tokenizer(values.tokenizer) if values.tokenizer else None
    settings = ReportSettings(**flag_values(ReportSettings))
    return report(corpus, settings, tokenizer, test, other, progress=True)


def main(argv: list[str]) -> None:
    """Writes the report that the flags ask for."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; files are given with --input.")
    values = flags.FLAGS
    if bool(values.input) == bool(values.prepared_dir):
        raise app.UsageError("Give either --input, the files to report on, or --prepared_dir.")
    stem, suffix = os.path.splitext(values.output)
    if suffix != ".html":
        raise app.UsageError(f"--output is {values.output}; expected a name that ends with .html.")
    gc.disable()  # millions of rows pass through, without cycles
    try:
        content = _report(values)
        files.write_json(f"{stem}.json", content)
        files.write_text(values.output, page(content))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error}. Reports need more packages: pip install 'docproduct[report]'")
    first = content["corpora"][0]
    summary = {"rows": first["counts"]["rows"], "refused": first["refusals"]["rows"]}
    found = [finding["text"] for finding in first["findings"]][:_TOP_FINDINGS]
    print(json.dumps({"output": values.output, "numbers": f"{stem}.json", **summary, "findings": found}))


if __name__ == "__main__":
    _define_flags()
    app.run(main)
