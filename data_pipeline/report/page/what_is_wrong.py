"""The sections on what may be wrong with a corpus."""

from collections.abc import Sequence
from typing import Any

from data_pipeline.report.page.elements import details, escaped, number, paragraph, quoted, quotes, table
from data_pipeline.report.page.sections import Corpora, example_list, facts, for_each
from data_pipeline.report.tally import percent


def refusals(corpora: Corpora) -> str:
    """Returns what preparing would refuse, and what it notes and changes."""
    return for_each(corpora, _refused)


def _refused(corpus: dict[str, Any]) -> str:
    found = corpus["refusals"]
    if found["reasons"]:
        rows = [[escaped(reason["reason"]), number(reason["rows"])] for reason in found["reasons"]]
        content = table("Rows that data_pipeline.prepare refuses", ["reason", "rows"], rows)
    else:
        content = paragraph("No row is refused.")
    content += "".join(example_list(f"Refused: {r['reason']}", r["examples"]) for r in found["reasons"])
    if found["notes"]:
        rows = [[escaped(n["note"]), number(n["times"]), escaped(n["first"])] for n in found["notes"]]
        content += table("Decisions of the readers", ["decision", "times", "first"], rows)
    if found["changed"]:
        rows = [[escaped(change["change"]), number(change["texts"])] for change in found["changed"]]
        content += table("Texts that cleaning changes", ["change", "texts"], rows)
    return content


def duplicates(corpora: Corpora) -> str:
    """Returns exact and near duplicates."""
    rows = (
        (
            "rows that repeat question and answer",
            lambda c: _of(c["exact_duplicates"], "repeated_rows", "repeated_share"),
        ),
        ("rows that share their question", lambda c: number(c["exact_duplicates"]["rows_of_repeated_questions"])),
        ("rows that share their answer", lambda c: number(c["exact_duplicates"]["rows_of_repeated_answers"])),
        ("near duplicates in the sample", lambda c: _of(c["near_duplicates"], "rows", "share")),
        ("rows compared in the sample", lambda c: number(c["near_duplicates"]["sample_rows"])),
    )
    note = (
        "Case, spaces and closing marks do not matter. Near duplicates share most of their word triples with an "
        "earlier row (MinHash). In a sample of a larger corpus, fewer are found than there are."
    )
    return facts("Repeated rows", corpora, rows) + paragraph(note, "small") + for_each(corpora, _duplicate_examples)


def _of(found: dict[str, Any], rows: str, share: str) -> str:
    return f"{number(found[rows])} ({percent(found[share])})"


def _duplicate_examples(corpus: dict[str, Any]) -> str:
    content = details("Near duplicates", quotes(map(_twins, corpus["near_duplicates"]["examples"])))
    for side in ("questions", "answers"):
        repeated = corpus["exact_duplicates"][side]
        shown = [(quoted(text["text"]), f"{number(text['rows'])} rows") for text in repeated]
        content += details(f"Most repeated {side}", quotes(shown))
    return content


def _twins(example: dict[str, Any]) -> tuple[str, str]:
    text = f'{quoted(example["text"])}<span class="answer">{quoted(example["other"])}</span>'
    return text, f"{example['where']} and {example['other_where']}, similarity {example['similarity']:.2f}"


def leaks(corpora: Corpora) -> str:
    """Returns what held-out rows share with the others."""
    content = for_each(corpora, lambda corpus: "".join(map(_leak, corpus["leaks"])))
    if content:
        return content
    return paragraph("Nothing to compare: give --test_file, or --prepared_dir of a folder with several splits.")


def _leak(leak: dict[str, Any]) -> str:
    where = "other splits" if leak["split"] else "the corpus"
    name = f"split {leak['name']}" if leak["split"] else leak["name"]
    sides = [(side, leak[side]) for side in ("questions", "answers")]
    rows = [
        [
            side,
            number(found["held_out"]),
            *(_in_rows(found[kind], found[f"{kind}_rows"]) for kind in ("exact", "near")),
            percent(found["share"]),
        ]
        for side, found in sides
    ]
    rows.append(["pairs of both", number(leak["pairs"]["held_out"]), number(leak["pairs"]["exact"]), "–", "–"])
    caption = f"{name}: what is also in {where}"
    content = table(caption, ["", "different ones", "word for word", "nearly", "share"], rows)
    for side, found in sides:
        for kind, summary in (("near", "nearly"), ("exact", "word for word")):
            shown = quotes(map(_twins, found[f"{kind}_examples"]))
            content += details(f"{side.capitalize()} of {name} that are {summary} in {where}", shown)
    return content


def mojibake(corpora: Corpora) -> str:
    """Returns damaged characters."""
    kinds = [kind["kind"] for kind in corpora[0]["mojibake"]["kinds"]]
    rows = [(kind, lambda c, i=i: number(c["mojibake"]["kinds"][i]["rows"])) for i, kind in enumerate(kinds)]
    rows += [("rows with any", lambda c: number(c["mojibake"]["rows"]))]
    rows += [("that ftfy can repair", lambda c: number(c["mojibake"]["repairable"]))]
    note = "In the texts as the files hold them. ftfy tells text that was read in a wrong encoding."
    return facts("Rows with damaged characters", corpora, rows) + paragraph(note, "small") + for_each(corpora, _damaged)


def _damaged(corpus: dict[str, Any]) -> str:
    return "".join(
        details(f"Rows with {kind['kind']}", quotes(map(_repair, kind["examples"])))
        for kind in corpus["mojibake"]["kinds"]
        if kind["examples"]
    )


def _repair(example: dict[str, Any]) -> tuple[str, str]:
    repaired = f'<span class="answer">{quoted(example["repaired"])}</span>' if example["repaired"] else ""
    return quoted(example["text"]) + repaired, example["where"]


def personal_data(corpora: Corpora) -> str:
    """Returns personal data, always masked."""
    kinds = [kind["kind"] for kind in corpora[0]["personal_data"]["kinds"]]
    rows = [(kind, lambda c, i=i: _hits(c["personal_data"]["kinds"][i])) for i, kind in enumerate(kinds)]
    rows += [("rows with any", lambda c: number(c["personal_data"]["rows"]))]
    note = (
        "Masked everywhere in this report. Numbers of organisations and names of researchers count as well; names "
        "without a title are not found. prepare --mask_personal masks e-mail addresses and telephone numbers."
    )
    return facts("What was found", corpora, rows) + paragraph(note, "small") + for_each(corpora, _personal_examples)


def _hits(kind: dict[str, Any]) -> str:
    return _in_rows(kind["hits"], kind["rows"])


def _in_rows(count: int, rows: int) -> str:
    return f"{number(count)} in {number(rows)} row{'s' * (rows != 1)}" if count else "0"


def _personal_examples(corpus: dict[str, Any]) -> str:
    kinds = corpus["personal_data"]["kinds"]
    return "".join(example_list(f"Rows with {kind['kind']}", kind["examples"]) for kind in kinds if kind["examples"])


def templates(corpora: Corpora) -> str:
    """Returns names in templates, and what many rows share."""
    names = [name["name"] for name in corpora[0]["templates"]["names"]]
    rows = [(name, lambda c, i=i: number(c["templates"]["names"][i]["rows"])) for i, name in enumerate(names)]
    note = "Programs that rewrote such texts put these names into the mouths of other doctors and patients."
    return facts("Rows that name", corpora, rows) + paragraph(note, "small") + for_each(corpora, _template_examples)


def _template_examples(corpus: dict[str, Any]) -> str:
    found = corpus["templates"]
    content = "".join(
        example_list(f"Rows that name {n['name']}", n["examples"]) for n in found["names"] if n["examples"]
    )
    frames = (
        ("Questions with a gap for the topic", "question_frames"),
        ("First words of answers", "answer_beginnings"),
        ("Last words of answers", "answer_ends"),
    )
    return content + "".join(details(title, _shared(title, found[key])) for title, key in frames if found[key])


def _shared(caption: str, frames: Sequence[dict[str, Any]]) -> str:
    rows = [[quoted(frame["text"]), number(frame["rows"]), percent(frame["share"])] for frame in frames]
    return table(caption, ["text", "rows", "share"], rows)


def boilerplate(corpora: Corpora) -> str:
    """Returns set phrases."""
    rows = (
        ("answers with set phrases", lambda c: _of(c["boilerplate"], "answers", "share")),
        ("share of all characters", lambda c: percent(c["boilerplate"]["characters_share"])),
        ("answers with an opening", lambda c: number(c["boilerplate"]["ends"][0]["answers"])),
        ("answers with a sign-off", lambda c: number(c["boilerplate"]["ends"][1]["answers"])),
    )
    note = "What prepare --strip_boilerplate would remove from the ends of answers."
    return facts("Set phrases", corpora, rows) + paragraph(note, "small") + for_each(corpora, _phrases)


def _phrases(corpus: dict[str, Any]) -> str:
    content = ""
    for end in corpus["boilerplate"]["ends"]:
        rows = [[quoted(phrase["text"]), number(phrase["answers"])] for phrase in end["phrases"]]
        if rows:
            content += details(
                f"Most frequent {end['end']}", table(f"Most frequent {end['end']}", ["phrase", "answers"], rows)
            )
    return content
