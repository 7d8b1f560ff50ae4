"""The script: python -m data_pipeline.prepare."""

import concurrent.futures.process
import gc
import json
import sys
from typing import Any

from absl import app, flags

from data_pipeline import splits
from data_pipeline.corpora import ROLES, Columns, Refusals
from data_pipeline.corpora.paths import find_inputs
from data_pipeline.prepare import Settings, prepare
from data_pipeline.prepare.settings import HTML_MODES
from data_pipeline.scrubbing import BOILERPLATE_FILE, ScrubSettings


def _define_flags() -> None:
    files_help = "Files, folders or patterns with pairs, commas between: CSV, TSV, JSON, JSON Lines, Parquet, .xlsx"
    flags.DEFINE_multi_string("input", [], f"{files_help}; split by question.")
    flags.DEFINE_multi_string("dev_input", [], "Files whose pairs are all dev; their questions are kept out of train.")
    flags.DEFINE_multi_string(
        "test_input", [], "Files whose pairs are all test; their questions are in no other split."
    )
    flags.DEFINE_string("output_dir", None, "The prepared folder to write.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace output_dir if it is there.")
    flags.DEFINE_string("tokenizer", None, "Model folder, or a vocabulary file (vocab.txt).", required=True)
    flags.DEFINE_enum("case", "auto", ["auto", "lower", "cased"], "Casing of the vocabulary; auto asks its folder.")
    flags.DEFINE_string("question_prompt", None, 'What the encoder expects before a question: "query: ".')
    flags.DEFINE_string("answer_prompt", None, 'The same before an answer: "passage: ". Default: as its folder says.')
    for role in ROLES:
        text = f"Column with the {role}, by name or as #3; usual names are recognised."
        flags.DEFINE_string(f"{role}_column", None, text)
    flags.DEFINE_string("delimiter", None, r"Between fields of a table (\t: a tab); default: as its header looks.")
    flags.DEFINE_list("header", [], "Names of the columns of a table without a header line: question,answer.")
    flags.DEFINE_integer("max_question_tokens", Settings.max_question_tokens, "Longer questions lose their end.")
    flags.DEFINE_integer("max_answer_tokens", Settings.max_answer_tokens, "Longer answers lose their end.")
    flags.DEFINE_float("dev_share", None, "Share of questions for dev; 0.05, or 0 where dev_input is given.")
    flags.DEFINE_float("test_share", Settings.test_share, "Share of questions for test.")
    flags.DEFINE_enum("duplicates", Settings.duplicates, ["exact", "near"], "Which pairs are refused as repeated.")
    flags.DEFINE_float("near_threshold", Settings.near_threshold, "Jaccard similarity of near duplicates.")
    flags.DEFINE_enum(
        "html",
        Settings.html,
        HTML_MODES,
        "Turn HTML into text: auto: in columns where most texts hold tags; or keep it.",
    )
    flags.DEFINE_bool("keep_null_words", False, "Take NULL, nan, N/A and the like for texts, not for empty fields.")
    flags.DEFINE_bool("strip_boilerplate", False, "Take set phrases of forum doctors from the ends of answers.")
    flags.DEFINE_string("boilerplate", BOILERPLATE_FILE, "The set phrases: a file of patterns.")
    flags.DEFINE_bool("mask_links", False, "Put [link] for web addresses.")
    flags.DEFINE_bool("mask_personal", False, "Put [email] and [phone] for e-mail addresses and telephone numbers.")
    flags.DEFINE_integer("num_shards", Settings.num_shards, "TFRecord files a split; 0: by the size.", lower_bound=0)
    flags.DEFINE_integer("num_workers", None, "Processes; default: one a processor.", lower_bound=0)
    flags.DEFINE_integer("seed", Settings.seed, "Draws the split.")


def main(argv: list[str]) -> None:
    """Prepares what the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; files are given with --input.")
    gc.disable()  # millions of rows pass through, and no cycles
    values = flags.FLAGS
    if not values.input:
        raise app.UsageError("--input is missing: the files with questions and answers.")
    dev_share = values.dev_share
    if dev_share is None:
        dev_share = 0.0 if values.dev_input else Settings.dev_share
    left_out = Refusals()
    try:
        columns = Columns(
            *(values[f"{role}_column"].value for role in ROLES),
            delimiter=values.delimiter and values.delimiter.replace("\\t", "\t"),
            header=tuple(values.header),
        )
        settings = Settings(
            inputs=find_inputs(values.input, columns, left_out),
            dev_inputs=find_inputs(values.dev_input, columns, left_out),
            test_inputs=find_inputs(values.test_input, columns, left_out),
            columns=columns,
            tokenizer=values.tokenizer,
            lower_case={"auto": None, "lower": True, "cased": False}[values.case],
            question_prompt=values.question_prompt,
            answer_prompt=values.answer_prompt,
            max_question_tokens=values.max_question_tokens,
            max_answer_tokens=values.max_answer_tokens,
            dev_share=dev_share,
            test_share=values.test_share,
            duplicates=values.duplicates,
            near_threshold=values.near_threshold,
            scrub=ScrubSettings(
                values.boilerplate if values.strip_boilerplate else None, values.mask_links, values.mask_personal
            ),
            html=values.html,
            keep_null_words=values.keep_null_words,
            num_shards=values.num_shards,
            seed=values.seed,
        )
        manifest = prepare(settings, values.output_dir, values.overwrite, values.num_workers, progress=True)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command again to go on.")
    except concurrent.futures.process.BrokenProcessPool:
        sys.exit("error: a worker was killed, perhaps for lack of memory. Run again to go on, with less --num_workers.")
    if empty := [name for name in (splits.TRAIN, splits.DEV) if not manifest["counts"][name]["pairs"]]:
        print(f"No pair is in {' and '.join(empty)}: a model cannot be trained and judged on this.", file=sys.stderr)
    noted = left_out.notes() | manifest.get("noted", {})
    _tell(manifest, noted)
    shown = {name: manifest[name] for name in ("counts", "refused", "changed")} | {"noted": noted}
    print(json.dumps({"output_dir": values.output_dir} | shown))


def _tell(manifest: dict[str, Any], noted: dict[str, Any]) -> None:
    """Says what was decided about the files and about HTML, on standard error."""
    for what, at in noted.items():
        times = f" ({at['times']} times)" if at["times"] > 1 else ""
        print(f"{at['first']}: {what}{times}.", file=sys.stderr)
    for entry in manifest["inputs"]:
        if entry.get("html"):
            sides = " and ".join(f"{side}s" for side in entry["html"])
            print(f"{entry['path']}: most {sides} hold HTML tags; they are turned into text.", file=sys.stderr)
    kept = {what: count for what, count in manifest["changed"].items() if what.endswith("kept")}
    if kept and manifest["settings"]["html"] == "auto":
        found = "; ".join(f"{count} {what}" for what, count in kept.items())
        print(f"{found}: most texts of their columns hold none. --html=text turns them into text.", file=sys.stderr)


if __name__ == "__main__":
    _define_flags()
    app.run(main)
