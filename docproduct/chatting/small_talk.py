"""Greetings and thanks: they get a fixed line, as no stored answer is near to "Hello"."""

import re
from collections.abc import Sequence

from data_pipeline import cleaning

_HELP = "I answer questions from {num_answers:,} stored answers and name the sources."
_EXAMPLES = " You can ask, for example: {examples}"
# What a whole turn says, in lower case without marks at its end; and the reply.
_REPLIES = (
    (r"(hi|hello|hey|hallo|greetings|good (morning|afternoon|evening|day))( there| all| doctor)?", f"Hello. {_HELP}"),
    (r"((who|what) are you|what can you do|what can i ask( you)?|how does this work|help)", _HELP),
    (r"(many thanks|thanks( a lot| so much)?|thank you( very much| so much)?|thx)( doctor)?", "You are welcome."),
    (r"(ok|okay|fine|great|good|i see|got it|perfect)( thanks| thank you)?", "You can go on asking."),
    (r"(bye|goodbye|good night|see you)", "Goodbye."),
    (r"how are you( doing)?( today)?", f"I am a program. {_HELP}"),
)


def reply_to(turn: str, num_answers: int, examples: Sequence[str] = ()) -> str | None:
    """Returns the reply to a turn that is nothing but small talk; None for any other.

    Args:
      turn: What the user said.
      num_answers: Number of stored answers.
      examples: Stored questions that the reply may name.
    """
    text = re.sub(r"[^\w\s]+", " ", cleaning.clean(turn).casefold())
    text = " ".join(text.split())
    for pattern, reply in _REPLIES:
        if re.fullmatch(pattern, text):
            shown = _EXAMPLES.format(examples=" ".join(examples)) if examples and _HELP in reply else ""
            return reply.format(num_answers=num_answers) + shown
    return None
