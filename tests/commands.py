"""Commands of the project inside the process of the tests: one of their own would import TensorFlow first."""

import contextlib
import functools
import gc
import io
import pathlib
import runpy
import types
import warnings

import pytest
from absl import app, flags, logging

TOP = pathlib.Path(__file__).parents[1]


@contextlib.contextmanager
def fresh_flags():
    """Yields absl's flags as they are in a new process: none. Flags that are defined inside are gone afterwards."""
    values = flags.FlagValues()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flags, "FLAGS", values)
        for define in [name for name in dir(flags) if name.startswith("DEFINE_")]:
            patch.setattr(flags, define, functools.partial(getattr(flags, define), flag_values=values))
        yield values


def run(program, *arguments):
    """Runs a script (name.py) or a module as `python` does; returns what `subprocess.run` returns, with texts."""
    out, err, status, verbosity = io.StringIO(), io.StringIO(), 0, logging.get_verbosity()
    with fresh_flags() as values, pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(app, "run", lambda main: main(values([program, *arguments])))
        warnings.filterwarnings("ignore", ".*found in sys.modules.*", RuntimeWarning)  # runpy's
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                if program.endswith(".py"):
                    runpy.run_path(str(TOP / program), run_name="__main__")
                else:
                    runpy.run_module(program, run_name="__main__")
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=err)
        finally:
            logging.set_verbosity(verbosity)
            gc.enable()  # data_pipeline.prepare works without
    return types.SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=err.getvalue())


def run_code(code):
    """Runs Python code with flags of its own; returns the lines that it prints."""
    out = io.StringIO()
    with fresh_flags(), contextlib.redirect_stdout(out):
        exec(code, {})
    return out.getvalue().splitlines()
