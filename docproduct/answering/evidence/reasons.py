"""Why a sentence is not supported, in a sentence for readers."""

from docproduct.answering.evidence.sources import Evidence, SourceTexts

_MOST_NAMED = 3  # words
_MOSTLY_MISSING = 0.6  # with a larger share of missing words, the sentence as a whole was not found


def reason(evidence: Evidence, texts: SourceTexts) -> str:
    """Returns the first of these that is the case: a number, a negation, an opposite, a topic or a word differs."""
    source = f"Source {evidence.nearest.source + 1}"
    if evidence.sign("missing") > _MOSTLY_MISSING:
        return "Not found in the sources."
    if evidence.missing_numbers:
        number = evidence.missing_numbers[0].text
        if evidence.sign("numbers_anywhere"):
            return f"The number {number} is not in the sources."
        return f"{source} does not give the number {number} here."
    if evidence.sign("negation"):
        return f"Of this sentence and {source.lower()}, one is negated and the other is not."
    if evidence.contradictions:
        theirs, ours = evidence.contradictions[0]
        return f"{source} says '{theirs}', not '{ours}'."
    if evidence.sign("number_instead"):
        return f"{source} gives other numbers."
    if evidence.sign("other_title") and (title := texts.title(evidence.nearest.source)):
        return f"{source} speaks of '{title}', not of '{evidence.other_topic}'."
    if evidence.missing_words:
        named = ", ".join(f"'{word}'" for word in evidence.missing_words[:_MOST_NAMED])
        return f"{source} does not mention {named} here."
    return f"{source} says it in other words or another order: compare them."
