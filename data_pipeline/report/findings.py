"""What a reader of a report should look at first, as sentences made of its numbers."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from data_pipeline.report.tally import percent

PROBLEM, NOTE, GOOD = "problem", "note", "good"
_LONG_SHARE = 0.05  # of texts over the limit
_REFUSED_SHARE = 0.05


class Finding(NamedTuple):
    """A sentence about a corpus.

    Attributes:
      level: PROBLEM, NOTE or GOOD.
      section: the section of the page that says more.
      text: the sentence.
    """

    level: str
    section: str
    text: str


def findings(numbers: dict[str, Any]) -> list[Finding]:
    """Returns what stands out in the numbers of a corpus, problems first."""
    parts = (_refusals, _leaks, _duplicates, _agreement, _texts, _lengths)
    listed = [finding for part in parts for finding in part(numbers)]
    return sorted(listed, key=lambda finding: (PROBLEM, NOTE, GOOD).index(finding.level))


def _refusals(numbers: dict[str, Any]) -> Iterator[Finding]:
    rows, refused = numbers["counts"]["rows"], numbers["refusals"]["rows"]
    if not rows:
        yield Finding(PROBLEM, "refusals", "No row is left.")
    elif refused:
        level = PROBLEM if refused > _REFUSED_SHARE * (rows + refused) else NOTE
        yield Finding(level, "refusals", f"Refused: {refused:,} of {rows + refused:,} rows.")


def _leaks(numbers: dict[str, Any]) -> Iterator[Finding]:
    for leak in numbers["leaks"]:
        name = f"{leak['name']} rows" if leak["split"] else leak["name"]
        for side in ("questions", "answers"):
            found = leak[side]
            if found["exact"] or found["near"]:
                where = "other splits" if leak["split"] else "the corpus"
                # One answer may serve several questions; a question in two splits is what must not be.
                level = PROBLEM if side == "questions" or not leak["split"] else NOTE
                text = f"Of {found['held_out']:,} {side} in {name}, {found['exact']:,} are in {where} word for word"
                yield Finding(level, "leaks", f"{text}, and {found['near']:,} nearly.")
            else:
                yield Finding(GOOD, "leaks", f"No {side[:-1]} of {name} is elsewhere in the corpus, not even nearly.")


def _duplicates(numbers: dict[str, Any]) -> Iterator[Finding]:
    exact, near = numbers["exact_duplicates"], numbers["near_duplicates"]
    if exact["repeated_rows"]:
        yield Finding(
            NOTE, "duplicates", f"{_rows(exact['repeated_rows'])} with the same question and answer as an earlier one."
        )
    elif exact["rows"]:
        yield Finding(GOOD, "duplicates", "No row repeats another one.")
    if near["rows"]:
        text = f"Near duplicates: {near['rows']:,} of {near['sample_rows']:,} rows ({percent(near['share'])})."
        yield Finding(NOTE, "duplicates", text)


def _agreement(numbers: dict[str, Any]) -> Iterator[Finding]:
    opposed = numbers["agreement"]["yes_and_no"]
    if opposed:
        one = "One question has" if opposed == 1 else f"{opposed:,} questions have"
        yield Finding(NOTE, "agreement", f"{one} an answer that begins with yes and one that begins with no.")


def _texts(numbers: dict[str, Any]) -> Iterator[Finding]:
    if damaged := numbers["mojibake"]["rows"]:
        yield Finding(PROBLEM, "mojibake", f"{_rows(damaged)} with damaged characters.")
    elif numbers["counts"]["rows"]:
        yield Finding(GOOD, "mojibake", "No damaged characters were found.")
    if personal := numbers["personal_data"]["rows"]:
        yield Finding(PROBLEM, "personal", f"{_rows(personal)} with what looks like personal data.")
    if named := numbers["templates"]["rows"]:
        yield Finding(
            PROBLEM, "templates", f"{_rows(named)} with the name of a program or platform, or an empty form field."
        )
    if phrases := numbers["boilerplate"]["answers"]:
        share = numbers["boilerplate"]["share"]
        yield Finding(NOTE, "boilerplate", f"{phrases:,} answers ({percent(share)}) begin or end with set phrases.")


def _lengths(numbers: dict[str, Any]) -> Iterator[Finding]:
    lengths = numbers["lengths"]
    for side in ("question", "answer"):
        share = lengths[side].get("over_limit_share", 0)
        if share > _LONG_SHARE:
            text = f"{percent(share)} of the {side}s are longer than {lengths['limit']} tokens: their ends will be cut."
            yield Finding(NOTE, "lengths", text)


def _rows(count: int) -> str:
    return f"{count:,} row" if count == 1 else f"{count:,} rows"
