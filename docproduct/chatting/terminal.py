"""A conversation at a prompt: replies grow as they are written; commands begin with a slash.

Only JSON goes to standard output; everything else goes to standard error.
"""

import json
from collections.abc import Callable, Iterable, Iterator

from data_pipeline.folders import files
from docproduct.answering import terminal
from docproduct.chatting.conversation import Conversation
from docproduct.chatting.reply import Reply

HELP = (
    "/sources shows the last reply's sources in full, /reset begins a new conversation, /save FILE writes the messages "
    "as JSON Lines, Ctrl-D ends."
)
Ask = Callable[[Conversation], Iterator[Reply]]


class Talk:
    """A conversation that goes on.

    Attributes:
      reply: The last reply; None before the first.
      messages: The messages so far.
    """

    def __init__(self, ask: Ask, system: str = ""):
        """Takes the function that replies to a conversation, and a system prompt."""
        self._ask, self._system = ask, system
        self._reset()

    def _reset(self) -> None:
        self.reply: Reply | None = None
        self.messages = [{"role": "system", "content": self._system}] if self._system else []

    def handle(self, line: str) -> None:
        """Does what a line says: a command, or a turn of the user.

        Raises:
          ValueError: The turn is empty, or the model's template refuses the conversation; it is not a part of it then.
          OSError: The messages cannot be written.
        """
        command, _, argument = line.strip().partition(" ")
        if not command.startswith("/"):
            self._say(line.strip())
        elif command == "/reset":
            self._reset()
            terminal.print_line("A new conversation.")
        elif command == "/sources":
            terminal.show_sources(self.reply and self.reply.answer)
        elif command == "/save":
            self._save(argument.strip())
        else:
            terminal.print_line(HELP)

    def _say(self, text: str) -> None:
        turn = {"role": "user", "content": text}
        self.reply = show(self._ask(Conversation.of([*self.messages, turn])), text)
        self.messages += [turn, {"role": "assistant", "content": self.reply.content}]

    def _save(self, path: str) -> None:
        if not path:
            raise ValueError("/save needs the file to write, for example: /save talk.jsonl")
        lines = (json.dumps(message, ensure_ascii=False) for message in self.messages)
        files.write_text(path, "".join(f"{line}\n" for line in lines))
        terminal.print_line(f"{len(self.messages)} messages were written to {path}.")


def show(replies: Iterable[Reply], turn: str) -> Reply:
    """Prints a reply while it grows, then what the check of it says, and its sources; returns it complete.

    Args:
      replies: The reply again and again, as `Chat.stream` yields it.
      turn: What the user said.
    """
    printed = ""
    terminal.print_line("")
    for reply in replies:
        if reply.content.startswith(printed):
            terminal.print_line(reply.content[len(printed) :], end="")
            printed = reply.content
    terminal.print_line("" if reply.finished else " ... (cut at the limit of tokens)")
    answer = reply.answer
    terminal.print_line("")
    if reply.searched and (query := answer.corrected or answer.question) != turn:
        terminal.print_line(f"Searched for: {query}")
    terminal.show_check(answer)
    if reply.num_left_out:
        terminal.print_line(f"Earlier messages that had no room in the prompt: {reply.num_left_out}.")
    for number, hit in enumerate(answer.hits[: answer.num_contexts], 1):
        terminal.print_line(f"  {number}. {hit.label}  [{hit.source}]")
    terminal.print_line(f"\n{answer.disclaimer}\n")
    return reply


def converse(talk: Talk, num_answers: int) -> None:
    """Takes one line after another; an error does not end the conversation."""
    terminal.print_line(f"{num_answers:,} answers. Say something. {HELP}")
    for line in terminal.lines("You: "):
        try:
            if line.strip():
                talk.handle(line)
        except (ValueError, OSError) as error:
            terminal.print_line(f"error: {error}")
        except KeyboardInterrupt:
            terminal.print_line("\nstopped.")


def as_json(talk: Talk) -> str | None:
    """Returns the last reply as a line of JSON; None if there is none."""
    if talk.reply is None:
        return None
    told = {"content": talk.reply.content, "finished": talk.reply.finished, **talk.reply.as_json()}
    return json.dumps({"messages": len(talk.messages), **told}, ensure_ascii=False)
