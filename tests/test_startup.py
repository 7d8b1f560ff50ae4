"""Standard error shows only our lines: startup messages of TensorFlow are held back, unless it cannot start."""

import ast
import os
import re
import subprocess
import sys

import pytest

from tests.commands import TOP

STARTUP = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795604907.130376    5111 port.cc:153] oneDNN custom operations are on. You may see different results.
2026-07-01 12:00:00.123456: I tensorflow/core/platform/cpu_feature_guard.cc:210] This TensorFlow binary is optimized.
To enable the following instructions: AVX2 AVX512F FMA, in other operations, rebuild TensorFlow.
E0000 00:00:1795604913.719087    5118 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error (303)
"""
OURS = """\
W0701 12:00:00.123456 140542 start.py:31] A batch is to hold 64 pairs, and there are 44.
caf\u00e9: a line of another thread
"""


def run(*command, folder=TOP, level=None, **options):
    """Runs Python without TF_CPP_MIN_LOG_LEVEL, or with `level`; TensorFlow is the one in `folder`, if it is there."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(TOP)])}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    environment |= {"TF_CPP_MIN_LOG_LEVEL": level} if level else {}
    return subprocess.run([sys.executable, *command], cwd=TOP, capture_output=True, env=environment, **options)


@pytest.fixture
def fake(tmp_path):
    """Returns a function that makes a fake tensorflow, which writes lines as C++ does and then runs `then`."""

    def make(then="", lines=STARTUP + OURS):
        package = tmp_path / "tensorflow"
        package.mkdir()
        write = f"with contextlib.suppress(OSError):\n    os.write(2, {lines.encode()!r})"  # C++ ignores a closed one
        code = f"import contextlib, os, sys, warnings\n{write}\n{then}\n"
        (package / "__init__.py").write_text(code, encoding="utf-8")
        return tmp_path

    return make


IMPORT = "import sys, docproduct; print('tensorflow' in sys.modules); import tensorflow; print('end', file=sys.stderr)"


@pytest.mark.parametrize("first", ["docproduct", "data_pipeline"])
def test_only_our_lines_are_shown(fake, first):
    done = run("-c", IMPORT.replace("docproduct", first), folder=fake(), check=True)
    assert done.stdout == b"False\n"  # our package does not import TensorFlow
    assert done.stderr.decode() == OURS + "end\n"


def test_python_warnings_are_shown(fake):
    done = run("-W", "always", "-c", IMPORT, folder=fake("warnings.warn('old')", STARTUP), check=True)
    assert b"UserWarning: old" in done.stderr
    assert done.stderr.endswith(b"end\n")


@pytest.mark.parametrize("then", ["raise ImportError('no AVX')", "import nothing_of_this_name", "sys.exit(3)"])
def test_a_failure_shows_all_lines_and_the_traceback(fake, then):
    done = run("-c", IMPORT, folder=fake(then))
    assert done.returncode
    assert done.stderr.decode().startswith(STARTUP + OURS)
    assert (b"Traceback" in done.stderr) == ("exit" not in then)


def test_a_crash_says_where(fake):
    done = run("-c", IMPORT, folder=fake("os.abort()"))
    assert done.returncode < 0
    assert b"Fatal Python error: Aborted" in done.stderr
    assert b"tensorflow" in done.stderr


def test_startup_messages_are_shown_on_request(fake):
    assert run("-c", IMPORT, folder=fake(), level="0", check=True).stderr.decode() == STARTUP + OURS + "end\n"


@pytest.mark.parametrize(
    "lost", ["import os; os.close(2)", "import sys; sys.stderr = None", "import sys; sys.stderr.close()"]
)
def test_without_standard_error(fake, lost):
    code = f"{lost}; import docproduct, tensorflow; print('whole', file=open(1, 'w'))"
    done = run("-c", code, folder=fake(), check=True)
    assert done.stdout == b"whole\n"
    assert STARTUP.encode() not in done.stderr


def test_without_a_place_for_temporary_files(fake):
    code = f"import tempfile; tempfile.tempdir = '/nowhere'; {IMPORT}"
    assert run("-c", code, folder=fake(), check=True).stderr.decode() == STARTUP + OURS + "end\n"


def test_lines_of_other_threads_are_neither_lost_nor_doubled(fake):
    """This holds before, during and after the import."""
    code = (
        "import os, threading, docproduct\n"
        "def write():\n"
        "    for i in range(200): os.write(2, b'line %d\\n' % i)\n"
        "threads = [threading.Thread(target=write) for _ in range(4)]\n"
        "[t.start() for t in threads]; import tensorflow; [t.join() for t in threads]"
    )
    lines = run("-c", code, folder=fake("import time; time.sleep(0.001)", STARTUP), check=True).stderr.splitlines()
    assert sorted(lines) == sorted(b"line %d" % i for i in range(200) for _ in range(4))


@pytest.mark.slow
@pytest.mark.parametrize("script", ["train_gpt2.py", "docproduct.index"])
def test_scripts_start_silently(script):
    """As serve.py does: see test_serve.py."""
    start = [str(TOP / script)] if script.endswith(".py") else ["-m", script]
    done = run(*start, "--help")
    assert b"--" in done.stdout
    assert done.stderr == b""


def test_top_level_scripts_import_tensorflow_only_through_ours():
    """Otherwise TensorFlow would start before its messages are held back."""
    for path in TOP.glob("*.py"):
        imports = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        assert not [node.lineno for node in imports if re.search("tensorflow|keras|tf_text", ast.unparse(node))], path


def test_preparing_imports_no_tensorflow():
    code = "import sys, data_pipeline.prepare.__main__; print('tensorflow' in sys.modules)"
    assert run("-c", code, check=True).stdout == b"False\n"


@pytest.fixture(scope="module")
def answering():
    """A process that imports what answers, says which of our modules that were, and lets libraries speak."""
    code = (
        "import sys, docproduct.answering\n"
        "print(*(name for name in sys.modules if name.startswith('docproduct.')))\n"
        "import logging, docproduct.search.words, faiss, tensorflow as tf\n"
        "logging.basicConfig(level=logging.INFO, format='%(name)s %(message)s')\n"
        "for name in ('bm25s', 'faiss.loader', 'tensorflow', 'ours'):\n"
        "    logging.getLogger(name).info('progress'); logging.getLogger(name).warning('warning')\n"
        "print(tf.reduce_sum([1, 2]).numpy())"  # the first operation looks for a GPU
    )
    return run("-c", code, check=True)


def test_answering_imports_no_training_code(answering):
    imported = answering.stdout.decode().splitlines()[0].split()
    assert "docproduct.answering.answerer" in imported
    of_training = ("train", "task", "losses", "start", "dev", "report", "training")
    assert not [name for name in imported if set(name.split(".")) & set(of_training)]


def test_progress_of_libraries_is_hidden(answering):
    """Even if our progress is logged, libraries show only their warnings."""
    done = answering
    assert done.stdout.splitlines()[1:] == [b"3"]
    assert b"progress" in done.stderr
    assert done.stderr.count(b"progress") == 1
    assert done.stderr.count(b"WARNING:tensorflow:warning") == 1
    assert {b"bm25s warning", b"faiss.loader warning", b"ours warning", b"ours progress"} <= set(
        done.stderr.splitlines()
    )
