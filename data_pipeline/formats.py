"""Lists the formats that are read, each with the rows that it gives and a line that shows it.

python -m data_pipeline.formats
"""

from collections.abc import Iterator

from absl import app

from data_pipeline.corpora import kinds
from data_pipeline.corpora.formats import FORMATS

# Of tables and JSON: the rows, what they are, and an example.
_TABLES = (
    (kinds.TABLE, "pairs", "CSV, TSV and the like", "question,answer,source / What eases a cough?,Honey.,forum"),
    (kinds.TABLE, "pairs", "MedQuAD's table", "Focus,CUI,SemanticType,SemanticGroup,Question,Answer"),
    (kinds.TABLE, "triage", "texts with labels or replies", "department,title,ask,answer / text,label"),
    (kinds.TABLE, "choices", "questions with choices", "question,opa,opb,opc,opd,cop / question,A,B,C,D,answer"),
    (kinds.JSON, "pairs", "questionDoctor, icliniq, eHealthForum, WebMD", '[{"question": "...", "answer": "..."}]'),
    (kinds.JSON, "pairs", "ChatDoctor, Alpaca", '[{"instruction": "...", "input": "...", "output": "..."}]'),
    (kinds.JSON, "choices", "MedQA", '{"question": "...", "options": {"A": "..."}, "answer_idx": "A"}'),
    (kinds.JSON, "choices", "MedMCQA", '{"question": "...", "opa": "...", "opb": "...", ..., "cop": 1}'),
    (kinds.JSON, "choices", "FrenchMedMCQA", '{"question": "...", "answers": {"a": "..."}, "correct_answers": ["a"]}'),
    (kinds.JSON, "choices", "PubMedQA", '{"question": "...", "contexts": ["..."], "final_decision": "yes"}'),
    (kinds.PARQUET, "pairs, triage, choices", "Parquet", "a file with such columns"),
    (kinds.ARROW, "pairs, triage, choices", "Arrow; datasets' save_to_disk", "state.json, data-00000-of-00001.arrow"),
    (kinds.EXCEL, "pairs, triage, choices", "Excel, with the extra xlsx", "a sheet with such columns"),
)


def listed() -> Iterator[tuple[str, str, str, str]]:
    """Yields the name of each format for --format, its rows, what it is, and an example."""
    yield from _TABLES
    for known in FORMATS:
        yield known.name, ", ".join(known.read), known.contents, known.example


def main(argv: list[str]) -> None:
    """Prints the formats."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; there are none.")
    for name, rows, contents, example in listed():
        print(f"{name:14} {rows:23} {contents}\n    {example}")


if __name__ == "__main__":
    app.run(main)
