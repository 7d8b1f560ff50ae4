"""Names the departments that a patient's text belongs to, with a trained triage model.

    python -m docproduct.triage --triage_dir=MODEL --text="My chest hurts when I climb stairs." --reply

The folder may be a trained model's, or an export. With --text, the answer is shown on standard error, and as one line
of JSON on standard output. Without it, every line of standard input is a text, and gets a line of JSON.
"""

import json
import sys

from absl import app, flags, logging

from data_pipeline import cleaning
from docproduct import command, sample
from docproduct.answering.triage import Triage, Triager

_BAR = 30  # characters of a probability of 1


def show(triage: Triage) -> None:
    """Prints an answer for people on standard error: what to do in an emergency comes first."""
    lines = [f"!! {triage.advice}\n"] if triage.advice else []
    if note := triage.as_json()["note"]:
        lines.append(note)
    for department in triage.departments:
        bar = "\u2588" * round(_BAR * department.prob)
        lines.append(f"  {department.prob:6.1%}  {bar:{_BAR}}  {department.label}")
    if triage.reply is not None:
        lines.append(f"\nA draft of a reply, which nobody has checked:\n\n{triage.reply}")
    print("\n".join(["", *lines, "", triage.as_json()["disclaimer"], ""]), file=sys.stderr)


def main(argv: list[str]) -> None:
    """Answers what the flags, or the lines of standard input, ask."""
    values = command.begin(argv)
    logging.set_verbosity(logging.WARNING)
    with command.errors_on_one_line("it ended."):
        triager = Triager.load(values.triage_dir, values.emergency_list)
        if values.text is not None:
            answer = triager.triage(values.text, values.reply)
            show(answer)
            print(json.dumps(answer.as_json(), ensure_ascii=False))
            return
        for line in filter(cleaning.clean, sys.stdin):
            print(json.dumps(triager.triage(line, values.reply).as_json(), ensure_ascii=False), flush=True)


if __name__ == "__main__":
    flags.DEFINE_string("triage_dir", None, "Triage model: its folder, or an export.", required=True)
    flags.DEFINE_string("text", None, "What a patient wrote; default: each line of standard input.")
    flags.DEFINE_bool("reply", False, "Draft a reply, too, if the model can.")
    flags.DEFINE_string("emergency_list", sample.EMERGENCY_LIST, "File with the terms of emergencies.")
    app.run(main)
