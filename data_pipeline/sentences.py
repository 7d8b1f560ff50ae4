"""Cuts texts into sentences by rules, in English, German, Spanish, French, Chinese and Japanese.

    split_sentences("Take 0.5 mg, e.g. at noon. [1] Ask Dr. Li.")  # ["Take 0.5 mg, e.g. at noon. [1] ", "Ask Dr. Li."]

A line break ends a sentence unless lower-case letters stand on both sides of it, as in a text with lines of fixed
width. A full stop ends one unless it belongs to an abbreviation, an initial, an ordinal or the number of a list item.
"""

import re


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE | re.VERBOSE)


# Never at the end of a sentence.
_ABBREVIATION = _words(r"""
    adj | al | approx | assoc | ave | bzw | ca | cf | cp | dept | dra?s? | e\.g | ee | ej | env | esp | evtl | ex |
    excl | ggf | gov | i\.e | in[ck]l | med | mlle | mme | mr | mrs | ms | mt | pr | prof | resp | rev | sog | spp |
    sra | ssp | st | subsp | tbl | usu | var | vgl | viz | vs | zzgl
""")
# Not at the end of a sentence if a lower-case letter follows.
_BEFORE_LOWER_CASE = _words("etc | gen | hrs? | inc | jr | max | mind | min | sec | sr | std | usw | uu")
# Not at the end of a sentence if a digit follows.
_BEFORE_NUMBER = _words(
    "abb | abs | art | bd | ch | chap | eq | figs? | kap | nos? | nr | núm | pp? | pos | s | tab | vol"
)
# A single letter behind one of these is no initial: "vitamin C. The ..."
_BEFORE_LETTER = _words("""
    antigen | class | factor | gene | grade | group | grupo | gruppe | hepatitis | influenza | klasse | part | patient |
    phase | stage | stufe | table | tipo | trisomy | types? | vitamin[ae]?
""")
_ORDINAL = re.compile(r"\b(?:am|das|dem|den|der|des|die|im|jede[nrs]?|vom|zum|zur)\s\d{1,2}$", re.IGNORECASE)
# After a letter or an abbreviation with inner stops, these begin a sentence: "in the U.S. The ..."
_OPENER = re.compile(r"(?:An?|As|At|But|For|He|How|If|In|Its?|She|The|There|These|They|This|Those|What|When)\s")
_CITATIONS = r"(?:\s?\[\d[\d,;\s–-]*(?:\]|$)|\s?\[$)*+"
# A stop with what closes the sentence behind it. Chinese and Japanese stops need no blank after them.
_STOP = re.compile(
    rf"(?P<mark>[.!?…]+)(?P<close>[\"'”’»)\]]*){_CITATIONS}(?P<blank>\s+)"
    rf"|[。！？；｡]+[\"'”’»)\]」』）】]*{_CITATIONS}\s*"
    r"|(?P<line>[^\S\n]*\n\s*)"
)
_QUOTES = tuple("\"'“”‘’«»")
_BETWEEN_WORDS = re.compile(r"[\s(\[/]+")
_LONGEST = 80  # characters that are looked at on each side of a stop
_ITEM_NUMBER = re.compile(r"(?:^|[:;(])\s*(?:[-•*]\s+)?(?:\d{1,2}|[a-z]|[ivx]{1,4})$", re.IGNORECASE)


def split_sentences(text: str) -> list[str]:
    """Returns the sentences of a text; joined, they are the text.

    White space, closing marks and citations such as [1] after a stop belong to the sentence before. All sentences but
    the last stay the same when more text is appended.
    """
    sentences, start = [], 0
    for stop in _STOP.finditer(text):
        if not text[start : stop.start() + 1].strip() or stop.end() == len(text):
            continue
        before, following = text[start : stop.start()], text[stop.end() : stop.end() + _LONGEST]
        if _ends_line(before, stop["line"], following) if stop["line"] else _ends_sentence(before, stop, following):
            sentences.append(text[start : stop.end()])
            start = stop.end()
    return [*sentences, text[start:]] if text[start:] else sentences


def _ends_line(before: str, line_break: str, following: str) -> bool:
    return line_break.count("\n") > 1 or not (before[-1:].islower() and following[0].islower())


def _ends_sentence(sentence: str, stop: re.Match[str], following: str) -> bool:
    """Returns whether a stop ends a sentence.

    Args:
      sentence: The sentence up to the stop.
      stop: The stop.
      following: The beginning of the text behind it.
    """
    if not stop["mark"]:
        return True  # a Chinese or Japanese stop
    lower_follows = following[0].islower()
    if "\n" in stop["blank"] and not lower_follows:
        return True
    if stop["mark"] != ".":
        return not (lower_follows and (stop["mark"][0] in ".…" or stop["close"]))
    if lower_follows and stop["close"].startswith(_QUOTES):
        return False
    if _ITEM_NUMBER.search(sentence) or _ORDINAL.search(sentence):
        return False
    *before, word = _BETWEEN_WORDS.split(sentence[-_LONGEST:])
    return not _is_abbreviation(word.lstrip("".join(_QUOTES)), before[-1] if before else "", following)


def _is_abbreviation(word: str, before: str, following: str) -> bool:
    """Returns whether the full stop behind a word belongs to the word.

    Args:
      word: The word without its full stop; it may hold others, as `e.g` does.
      before: The word before it, or an empty text.
      following: The text behind the full stop and the blanks.
    """
    if _ABBREVIATION.fullmatch(word):
        return True
    if _BEFORE_NUMBER.fullmatch(word) and following[0].isdigit():
        return True
    if _BEFORE_LOWER_CASE.fullmatch(word) and following[0].islower():
        return True
    if _OPENER.match(following):
        return False
    if len(word) == 1:
        return word.isalpha() and word.isascii() and word != "I" and not _BEFORE_LETTER.fullmatch(before)
    return "." in word and max(map(len, word.split("."))) < 3  # U.S. and Ph.D., but not 0.125 or example.org
