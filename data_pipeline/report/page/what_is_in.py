"""The sections on what a corpus holds."""

import math
from typing import Any

from data_pipeline.report.lengths import SIDES
from data_pipeline.report.page.charts import Bar
from data_pipeline.report.page.elements import details, escaped, number, paragraph, quoted, quotes, table
from data_pipeline.report.page.sections import Corpora, bar_figure, column_figure, example_list, facts, for_each
from data_pipeline.report.tally import percent, share

_LENGTH_ROWS = (
    ("mean", "mean"),
    ("median", "median"),
    ("90 % are up to", "p90"),
    ("99 % are up to", "p99"),
    ("longest", "longest"),
)


def sources(corpora: Corpora) -> str:
    """Returns the rows by source, and by split."""
    chart = bar_figure("Rows by source", corpora, lambda c: c["counts"]["sources"], lambda c: c["counts"]["rows"])
    splits = [{"name": name, "rows": rows} for name, rows in corpora[0]["counts"]["splits"].items()]
    if splits:
        chart += bar_figure("Rows by split", corpora[:1], lambda c: splits, lambda c: c["counts"]["rows"])
    return chart


def topics(corpora: Corpora) -> str:
    """Returns the most frequent foci."""
    if not any(corpus["counts"]["foci"] for corpus in corpora):
        return paragraph("The rows name no topic.")
    chart = bar_figure("Most frequent topics", corpora, lambda c: c["counts"]["foci"], lambda c: c["counts"]["rows"])
    return for_each(corpora, _named_topics) + chart


def _named_topics(corpus: dict[str, Any]) -> str:
    topics, rows = (corpus["counts"][key] for key in ("num_foci", "rows_with_focus"))
    text = f"{number(topics)} different topics; {number(rows)} rows name one."
    return paragraph(text if rows else "No row names one.")


def question_types(corpora: Corpora) -> str:
    """Returns forms and subjects of questions."""
    forms = bar_figure(
        "How questions begin", corpora, lambda c: c["question_types"]["forms"], lambda c: c["counts"]["rows"]
    )
    subjects = bar_figure(
        "What questions ask about", corpora, lambda c: c["question_types"]["subjects"], lambda c: c["counts"]["rows"]
    )
    text = "Told by English words; a question may ask about several things, or about none of these."
    return f'<div class="pair"><div>{forms}</div><div>{subjects}</div></div>{paragraph(text, "small")}'


def lengths(corpora: Corpora) -> str:
    """Returns the lengths of questions and answers."""
    unit, limit = corpora[0]["lengths"]["unit"], corpora[0]["lengths"]["limit"]
    figures = [_histogram(corpora, side, unit, limit) for side in SIDES]
    note = "Bars count texts up to the length below them, each bin twice as wide as the one before."
    if limit is None:
        note += " Give --tokenizer for lengths in tokens beside the limit of a model."
    else:
        note += f" The line is the limit of {limit} tokens, [CLS] and [SEP] counted: training cuts what is longer."
    pair = f'<div class="pair">{"".join(f"<div>{figure}</div>" for figure in figures)}</div>'
    return pair + paragraph(note, "small") + for_each(corpora, _length_table)


def _length_table(corpus: dict[str, Any]) -> str:
    lengths, limit = corpus["lengths"], corpus["lengths"]["limit"]
    rows = [[name, *(number(lengths[side][key]) for side in SIDES)] for name, key in _LENGTH_ROWS]
    if limit is not None:
        rows.append([f"over {limit}", *(_over(lengths[side]) for side in SIDES)])
        rows.append(["share of tokens that the limit cuts", *(percent(lengths[side]["lost_share"]) for side in SIDES)])
    return table(f"Lengths in {lengths['unit']}", ["", *(f"{side}s" for side in SIDES)], rows)


def _over(side: dict[str, Any]) -> str:
    return f"{number(side['over_limit'])} ({percent(side['over_limit_share'])})"


def _histogram(corpora: Corpora, side: str, unit: str, limit: int | None) -> str:
    bins = [{b["to"]: b["texts"] for b in corpus["lengths"][side]["histogram"]} for corpus in corpora]
    ends = sorted({end for one in bins for end in one})
    while len(ends) > 1 and not sum(one.get(ends[0], 0) for one in bins):
        del ends[0]
    if not ends:
        return ""
    texts = [corpus["lengths"][side]["texts"] for corpus in corpora]
    items = []
    for end in ends:
        counts = [one.get(end, 0) for one in bins]
        items.append(Bar(_short(end), [share(n, of) for n, of in zip(counts, texts, strict=True)], counts))
    place = None if limit is None else math.log2(limit / ends[0]) + 1  # a bin doubles the one before
    return column_figure(f"{side.capitalize()}s by length in {unit}", items, corpora, place)


def _short(count: int) -> str:
    return f"{count // 1024}k" if count >= 1024 else str(count)


def languages(corpora: Corpora) -> str:
    """Returns the languages, and examples of all but the first."""

    def listed(corpus: dict[str, Any]) -> list[dict[str, Any]]:
        return [entry | {"name": entry["language"]} for entry in corpus["languages"]["languages"]]

    def others(corpus: dict[str, Any]) -> str:
        found = corpus["languages"]["languages"][1:]
        return "".join(example_list(f"Rows taken for {e['language']}", e["examples"]) for e in found if e["examples"])

    chart = bar_figure("Rows by language", corpora, listed, lambda c: c["languages"]["sample_rows"])
    text = (
        "Told by py3langid from question and answer, in ISO 639 codes. Short texts may be taken for a similar language."
    )
    return chart + paragraph(text, "small") + for_each(corpora, others)


def vocabulary(corpora: Corpora) -> str:
    """Returns what the tokenizer does not know; nothing without a tokenizer."""
    if not all(corpus["vocabulary"] for corpus in corpora):
        return ""
    rows = (
        (
            "unknown tokens",
            lambda c: f"{number(c['vocabulary']['unknown_tokens'])} ({percent(c['vocabulary']['unknown_share'])})",
        ),
        ("tokens a word", lambda c: f"{c['vocabulary']['tokens_per_word']:.2f}"),
        ("words looked at", lambda c: number(c["vocabulary"]["words"])),
    )
    return facts("What the vocabulary knows", corpora, rows) + for_each(corpora, _words)


def _words(corpus: dict[str, Any]) -> str:
    found = corpus["vocabulary"]
    unknown = [
        [f"{quoted(word['word'])} {escaped(' '.join(word['code_points']))}", number(word["times"])]
        for word in found["unknown_words"]
    ]
    costly = [[quoted(word["word"]), number(word["times"]), number(word["pieces"])] for word in found["costly_words"]]
    parts = []
    if unknown:
        parts.append(table("Most frequent unknown words", ["word and code points", "times"], unknown))
    if costly:
        parts.append(table("Words that cost the most tokens", ["word", "times", "tokens"], costly))
    return f'<div class="pair">{"".join(f"<div>{part}</div>" for part in parts)}</div>' if parts else ""


def agreement(corpora: Corpora) -> str:
    """Returns how many answers questions have, and how they agree."""
    answers = [corpus["answers_a_question"] for corpus in corpora]
    bars = []
    for place, entry in enumerate(answers[0]["by_number"]):
        counts = [one["by_number"][place]["questions"] for one in answers]
        label = f"{entry['answers']} or more" if place == len(answers[0]["by_number"]) - 1 else str(entry["answers"])
        shares = [share(n, one["questions"]) for n, one in zip(counts, answers, strict=True)]
        bars.append(Bar(label, shares, counts))
    figures = [column_figure("Questions by number of different answers", bars, corpora)]
    if any(corpus["agreement"]["questions"] for corpus in corpora):
        figures.append(_overlap_figure(corpora))
    rows = (
        ("questions with several answers", lambda c: number(c["answers_a_question"]["with_several"])),
        ("compared in the sample", lambda c: number(c["agreement"]["questions"])),
        ("words that two answers share, mean", lambda c: _share(c["agreement"]["mean"])),
        ("questions answered with yes and with no", lambda c: number(c["agreement"]["yes_and_no"])),
        ("questions with several topics or labels", lambda c: number(c["agreement"]["several_foci"])),
    )
    note = "Answers that share few words may still mean the same. What begins with yes and with no may contradict."
    pair = f'<div class="pair">{"".join(f"<div>{figure}</div>" for figure in figures)}</div>'
    return pair + facts("Agreement", corpora, rows) + paragraph(note, "small") + for_each(corpora, _disagreeing)


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _overlap_figure(corpora: Corpora) -> str:
    found = [corpus["agreement"] for corpus in corpora]
    items = []
    for place, bucket in enumerate(found[0]["buckets"]):
        counts = [one["buckets"][place]["questions"] for one in found]
        shares = [share(n, one["questions"]) for n, one in zip(counts, found, strict=True)]
        items.append(Bar(f"to {bucket['to']:.0%}", shares, counts))
    return column_figure("Questions by words that their answers share", items, corpora)


def _disagreeing(corpus: dict[str, Any]) -> str:
    found = corpus["agreement"]
    parts = (("Yes and no to one question", "yes_and_no_examples"), ("Answers that share the fewest words", "lowest"))
    return "".join(details(title, quotes(map(_answers, found[key]))) for title, key in parts if found[key])


def _answers(example: dict[str, Any]) -> tuple[str, str]:
    answers = "".join(f'<span class="answer">{quoted(answer)}</span>' for answer in example["answers"])
    return f"<b>{quoted(example['question'])}</b>{answers}", example["where"]


def examples(corpora: Corpora) -> str:
    """Returns random rows."""

    def listed(corpus: dict[str, Any]) -> str:
        return quotes(map(_row, corpus["examples"]))

    return for_each(corpora, listed)


def _row(example: dict[str, str]) -> tuple[str, str]:
    origin = " · ".join(filter(None, (example["source"], example["focus"], example["where"])))
    answer = f'<span class="answer">{quoted(example["answer"])}</span>' if example["answer"] else ""
    return f"<b>{quoted(example['question'])}</b>{answer}", origin
