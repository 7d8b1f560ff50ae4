"""Checks every row of a token folder of docproduct.contexts: no prompt holds its right answer, and no row is too long.

    python -m tests.check_contexts --prepared_dir=prepared --tokens_dir=contexts

Meant for corpora outside the project. Prints one line of JSON, and fails if a row is wrong.
"""

import json
import sys

from absl import app, flags

from data_pipeline import cleaning, splits
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.folders.token_folder import TokenFolder
from data_pipeline.prompts.answer_prompts import PromptSettings
from docproduct.systems.generator.dev import read_rows


def main(argv: list[str]) -> None:
    """Checks the token folder that the flags name."""
    del argv
    values = flags.FLAGS
    folder = TokenFolder(values.tokens_dir)
    tokenizer, settings = folder.tokenizer(), PromptSettings(**folder.manifest["settings"]["prompt"])
    pairs = PreparedFolder(values.prepared_dir).table(["pair_id", "answer"]).to_pydict()
    answer_of = dict(zip(pairs["pair_id"], pairs["answer"], strict=True))
    counts = {"rows": 0, "answers_in_prompts": 0, "too_long": 0, "other_targets": 0}
    for split in splits.SPLITS:
        for row in read_rows(folder, split):
            counts["rows"] += 1
            answer, prompt = answer_of[row.pair_id], tokenizer.show(row.prompt_ids)
            # The prompt may hold only the beginning of a retrieved answer.
            contexts, _, _ = prompt.rpartition("<question>")
            # Shorter answers, such as "no", also occur inside other words.
            is_long = len(cleaning.normal_form(answer)) >= 6
            counts["answers_in_prompts"] += is_long and cleaning.normal_form(answer) in cleaning.normal_form(contexts)
            too_long = len(row.prompt_ids) > settings.prompt_tokens
            counts["too_long"] += too_long or len(row.prompt_ids) + len(row.target_ids) > settings.window
            counts["other_targets"] += not answer.startswith(tokenizer.decode_finished(row.target_ids))
    print(json.dumps(counts))
    if any(count for name, count in counts.items() if name != "rows"):
        sys.exit("error: some rows are wrong; the counts above say how many.")


if __name__ == "__main__":
    flags.DEFINE_string("prepared_dir", None, "The prepared folder.", required=True)
    flags.DEFINE_string("tokens_dir", None, "The token folder that docproduct.contexts made from it.", required=True)
    app.run(main)
