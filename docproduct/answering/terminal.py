"""Questions and answers in a terminal: answers grow as they are written, and the arrow keys bring questions back.

Only JSON goes to standard output; everything here but the prompt goes to standard error.
"""

import contextlib
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator

from docproduct.answering.query import Answer, Suggestion

_HISTORY_LINES = 500
_HELP = "/sources shows the last answer's sources in full; Ctrl-D ends."


def show(answers: Iterable[Answer]) -> Answer:
    """Prints an answer while it grows, then its sources; returns it complete.

    Args:
      answers: The answer again and again, as `Answerer.stream` yields it.
    """
    printed: str | None = None  # of the generated text
    for number, answer in enumerate(answers):
        if not number:
            if answer.emergency:
                print_line(f"\n!! {answer.emergency}")
            if answer.corrected:
                print_line(f"\nSearched for: {answer.corrected}")
            print_line(f"\n{answer.answer}\n")
            if answer.answerable and answer.hits[0].place:
                print_line(f"  from: {answer.hits[0].place}  [{answer.hits[0].source}]\n")
            if answer.suggestions:
                topics = (_suggested(suggestion) for suggestion in answer.suggestions)
                print_line("Did you mean:\n" + "".join(f"  {topic}\n" for topic in topics))
        if answer.generated is not None:
            if printed is None:
                sources = "from the sources marked with *" if answer.num_contexts else "without sources"
                cut = "; the question is too long for it, and lost its end" if answer.shortened else ""
                print_line(f"Written by the generator, {sources}{cut}:\n")
            print_line(answer.generated[len(printed or "") :], end="")
            printed = answer.generated
    if printed is not None:
        print_line("\n" if answer.finished else " ... (cut at the limit of tokens)\n")
        show_check(answer)
    for number, hit in enumerate(answer.hits, 1):
        mark = "*" if number <= answer.num_contexts else " "
        print_line(f"  {number}.{mark} (cosine {hit.score:.3f}) {hit.label}  [{hit.source}]")
    times = ", ".join(f"{step} {seconds * 1_000:.0f} ms" for step, seconds in answer.seconds.items())
    print_line(f"\n{times}\n\n{answer.disclaimer}\n")
    return answer


def _suggested(suggestion: Suggestion) -> str:
    topic, question = suggestion.topic, suggestion.question
    return topic if topic == question else f"{topic} (ask: {question})"


def show_check(answer: Answer) -> None:
    """Prints what the check of the written text found."""
    for line in _support(answer):
        print_line(line)


def _support(answer: Answer) -> list[str]:
    """Returns what the check of the written text found, in lines."""
    statements = [sentence for sentence in answer.sentences if sentence.checkable]
    doubtful = [sentence for sentence in statements if not sentence.supported]
    lines = []
    if statements:
        lines.append(f"Checked: {len(statements) - len(doubtful)} of {len(statements)} statements are in the sources.")
    lines += [f"  ? {sentence.text.strip()}  ({sentence.reason})" for sentence in doubtful]
    if answer.num_left_out:
        lines.append(f"Left out, as the sources do not support it: {answer.num_left_out} of the sentences.")
    return [*lines, ""] if lines else []


def converse(ask: Callable[[str], Iterator[Answer]], num_answers: int) -> None:
    """Answers one line after another; a question that cannot be answered does not end the conversation."""
    print_line(f"{num_answers} answers. Ask a question. {_HELP}")
    last: Answer | None = None
    for line in lines("Question: "):
        try:
            if line.strip() == "/sources":
                show_sources(last)
            elif line.strip().startswith("/"):
                print_line(_HELP)
            else:
                last = show(ask(line.strip()))
        except ValueError as error:
            print_line(f"error: {error}")
        except KeyboardInterrupt:
            print_line("\nstopped.")


def lines(prompt: str) -> Iterator[str]:
    """Yields what the user types; in a terminal, lines can be edited and the arrow keys bring earlier ones back."""
    with _history():
        while (line := _read(prompt)) is not None:
            yield line


def show_sources(last: Answer | None) -> None:
    """Prints the sources of an answer in full."""
    if last is None:
        print_line("There is no answer yet.")
        return
    for number, hit in enumerate(last.hits, 1):
        print_line(f"\n{number}. {hit.label}\n\n{hit.answer}\n\n   cosine {hit.score:.3f}, {hit.source} {hit.focus}")
    print_line(f"\n{last.disclaimer}\n")


def _read(prompt: str) -> str | None:
    """Returns a line; None at the end of the input or when interrupted. In a terminal, lines can be edited."""
    try:
        if sys.stdin.isatty():
            return input(prompt)
        print_line(prompt, end="")
        return sys.stdin.readline() or None
    except (EOFError, KeyboardInterrupt):
        return None


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Keeps questions from one session to the next, in a file that only its owner reads."""
    if not sys.stdin.isatty():
        yield
        return
    import readline  # importing it changes `input`; it is missing on some systems

    folder = pathlib.Path(os.environ.get("XDG_STATE_HOME") or pathlib.Path.home() / ".local" / "state")
    path = folder / "docproduct" / "history"
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(_HISTORY_LINES)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.touch(mode=0o600)
            readline.write_history_file(path)


def print_line(text: str, end: str = "\n") -> None:
    """Prints a line to standard error."""
    print(text, end=end, file=sys.stderr, flush=True)
