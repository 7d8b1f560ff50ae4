"""The script: python -m data_pipeline.generate_questions; a model behind an endpoint writes questions about passages.

    python -m data_pipeline.generate_questions --input=book.md,notes/*.txt --kind=several --num_questions=3 \
        --base_url=http://127.0.0.1:8000/v1 --model=NAME --max_tokens_total=2000000 --output_dir=questions

The same command goes on with a run that was killed or stopped at its budget. Ends with one line of JSON: the report.
"""

import sys

from absl import app

from data_pipeline.generate_questions import flags


def main(argv: list[str]) -> None:
    """Generates questions from the texts that the flags name."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; files are given with --input.")
    try:
        flags.run(flags.read_passages(), flags.endpoint_model(), flags.word_filters())
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command again to go on.")


if __name__ == "__main__":
    flags.define()
    app.run(main)
