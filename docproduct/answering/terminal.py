"""Questions and answers in a terminal: answers grow as they are written, and the arrow keys bring questions back.

All but the prompt is on standard error, so that standard output holds only JSON.
"""

import contextlib
import os
import pathlib
import sys
from collections.abc import Callable, Iterator

from docproduct.answering.answerer import Answer

_HISTORY_LINES = 500
_HELP = "/sources shows the last answer's sources in full; Ctrl-D ends."


def show(answers: Iterator[Answer]) -> Answer:
    """Prints an answer while it grows, then its sources; returns it whole."""
    shown: str | None = None  # of the written answer
    for number, found in enumerate(answers):
        if not number:
            if found.emergency:
                _print(f"\n!! {found.emergency}")
            _print(f"\n{found.answer}\n")
        if found.generated is not None:
            if shown is None:
                sources = "from the sources marked with *" if found.num_contexts else "without sources"
                cut = "; the question is too long for it, and lost its end" if found.shortened else ""
                _print(f"Written by the generator, {sources}{cut}:\n")
            _print(found.generated[len(shown or "") :], end="")
            shown = found.generated
    if shown is not None:
        _print("\n" if found.finished else " ... (cut at the limit of tokens)\n")
    for number, hit in enumerate(found.hits, 1):
        mark = "*" if number <= found.num_contexts else " "
        _print(f"  {number}.{mark} (cosine {hit.score:.3f}) {hit.question}  [{hit.source}]")
    times = ", ".join(f"{step} {seconds * 1_000:.0f} ms" for step, seconds in found.seconds.items())
    _print(f"\n{times}\n\n{found.disclaimer}\n")
    return found


def converse(ask: Callable[[str], Iterator[Answer]], num_answers: int) -> None:
    """Answers one line after another; a question that cannot be answered ends nothing."""
    _print(f"{num_answers} answers. Ask a question. {_HELP}")
    last: Answer | None = None
    with _history():
        while (line := _read("Question: ")) is not None:
            try:
                if line.strip() == "/sources":
                    _show_sources(last)
                elif line.strip().startswith("/"):
                    _print(_HELP)
                else:
                    last = show(ask(line.strip()))
            except ValueError as error:
                _print(f"error: {error}")
            except KeyboardInterrupt:
                _print("\nstopped.")


def _show_sources(last: Answer | None) -> None:
    if last is None:
        _print("There is no answer yet.")
        return
    for number, hit in enumerate(last.hits, 1):
        _print(f"\n{number}. {hit.question}\n\n{hit.answer}\n\n   cosine {hit.score:.3f}, {hit.source} {hit.focus}")
    _print(f"\n{last.disclaimer}\n")


def _read(prompt: str) -> str | None:
    """Returns a line, None at the end of the input or when stopped; in a terminal, lines are edited and come back."""
    try:
        if sys.stdin.isatty():
            return input(prompt)
        _print(prompt, end="")
        return sys.stdin.readline() or None
    except (EOFError, KeyboardInterrupt):
        return None


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Keeps questions from one session to the next, in a file that only its owner reads."""
    if not sys.stdin.isatty():
        yield
        return
    import readline  # it changes `input`; and is not everywhere

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


def _print(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)
