"""Asks English questions in other words, by rules: for training rows whose question is not that of a source.

Some rules know common forms of questions, `What are the symptoms of X?`; the others fit any question. Texts in other
languages get the rules for any question only if they are written in Latin letters, and stay as they are otherwise.
"""

import random
import re

_SUBJECT = r"(?P<x>.+?)"
# Forms of questions, and other words for them. {x} is what is asked about.
_FORMS = tuple(
    (re.compile(rf"{pattern}\s*\?*\s*$", re.IGNORECASE), rewrites)
    for pattern, rewrites in (
        (
            rf"what (?:is \(are\)|is|are) the (?:signs and )?symptoms of {_SUBJECT}",
            ("How do I know if I have {x}?", "Which symptoms does {x} cause?", "symptoms {x}", "signs of {x}"),
        ),
        (
            rf"what (?:is \(are\)|is|are) the treatments? (?:for|of) {_SUBJECT}",
            ("How is {x} treated?", "What can be done about {x}?", "What helps against {x}?", "{x} therapy"),
        ),
        (
            rf"what (?:is \(are\)|is|are) the (?:outlook|prognosis) for {_SUBJECT}",
            ("What can I expect if I have {x}?", "How serious is {x}?", "How does {x} usually go on?"),
        ),
        (
            rf"what (?:is \(are\)|is|are) the complications of {_SUBJECT}",
            ("What can {x} lead to?", "Which problems may {x} bring?"),
        ),
        (
            rf"what (?:is \(are\)|is|are) the genetic changes related to {_SUBJECT}",
            ("Which genes have to do with {x}?", "Which mutation is behind {x}?", "gene for {x}"),
        ),
        (rf"is {_SUBJECT} inherited", ("Can {x} be passed on to my children?", "Does {x} run in families?")),
        (rf"what causes {_SUBJECT}", ("Why do people get {x}?", "Where does {x} come from?", "cause of {x}")),
        (rf"how to diagnose {_SUBJECT}", ("Which tests show {x}?", "How do doctors find {x}?", "{x} diagnosis")),
        (rf"how to prevent {_SUBJECT}", ("How can I avoid {x}?", "What protects against {x}?", "{x} prevention")),
        (rf"how many people are affected by {_SUBJECT}", ("How common is {x}?", "How rare is {x}?")),
        (rf"who is at risk for {_SUBJECT}", ("Who gets {x}?", "Am I likely to get {x}?")),
        (rf"what to do for {_SUBJECT}", ("How should I live with {x}?", "What should I eat and do with {x}?")),
        (
            rf"(?:what (?:is \(are\)|is|are)|do you have information about) {_SUBJECT}",
            ("Tell me about {x}.", "I was told that I have {x}. What does that mean?", "{x}", "Explain {x} to me."),
        ),
    )
)
_LEADS = (
    "Can you tell me: {q}",
    "I would like to know: {q}",
    "My mother asks me: {q}",
    "Please help. {q}",
    "{q} Thanks",
)
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """
    a an and are as at be by can could did do does for from had has have how i in is it its me my of on
    or should so tell that the their there these this to was we what when where which who why will with
    would you your
""",
    )
)


def paraphrased(question: str, draw: random.Random) -> str:
    """Returns a question in other words; `draw` chooses among the rules that fit."""
    text = question.strip()
    if not re.search("[A-Za-z]", text):
        return text
    ways = [text.lower().rstrip(" ?"), draw.choice(_LEADS).format(q=text[:1].lower() + text[1:])]
    if len(words := re.findall(r"[\w'-]+", text)) > 3:
        ways.append(" ".join(word for word in words if word.lower() not in STOP_WORDS) or text)
    if rewritten := reworded_form(text, draw):
        ways += [rewritten, rewritten, rewritten]  # a form that is known is changed most
    return draw.choice(ways)


def reworded_form(question: str, draw: random.Random) -> str | None:
    """Returns a question of a known form in other words; None if its form is not known."""
    for pattern, rewrites in _FORMS:
        if match := pattern.match(question):
            return draw.choice(rewrites).format(x=match["x"].strip(" ?"))
    return None


def subject(question: str) -> str | None:
    """Returns what a question of a known form asks about, as it is written there; None if its form is not known."""
    matches = (pattern.match(question.strip()) for pattern, _ in _FORMS)
    return next((match["x"].strip(" ?") for match in matches if match), None)
