"""How a command begins, and how it ends when something is wrong: one line on standard error, and exit status 1."""

import contextlib
import sys
from collections.abc import Iterator, Sequence

from absl import app, flags, logging

from docproduct.training.devices import set_up


def begin(argv: Sequence[str]) -> flags.FlagValues:
    """Sets the process up and returns the flags' values.

    Raises:
      app.UsageError: there is an argument that is no flag.
    """
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    logging.set_verbosity(logging.INFO)
    set_up()
    return flags.FLAGS


@contextlib.contextmanager
def errors_on_one_line(interrupted: str = "nothing was written.") -> Iterator[None]:
    """Ends the process with one line for a ValueError or an OSError, and when the user interrupts it."""
    try:
        yield
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"interrupted: {interrupted}")
