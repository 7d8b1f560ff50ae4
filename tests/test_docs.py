"""README, docs and CONTRIBUTING: commands use flags that exist, and Python examples import names that exist."""

import ast
import contextlib
import functools
import importlib
import pathlib
import re
import runpy
import shlex

import pytest
from absl import app, flags

TOP = pathlib.Path(__file__).parents[1]
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").glob("*.md"))]


def code_blocks(page):
    """Yields the indented blocks of a page, without their indent."""
    for block in re.findall(r"(?m)(?:^    .*\n?)+", page.read_text(encoding="utf-8")):
        yield re.sub(r"(?m)^    ", "", block)


def commands():
    """Yields (page, arguments) of each Python command, from `python` on."""
    for page in PAGES:
        for block in code_blocks(page):
            for line in re.sub(r"\\\n\s*", " ", block).splitlines():
                for part in re.split(r"&&|;", line):
                    if re.match(r"\s*(\S*/)?python3? (?!-c )", part):
                        words = shlex.split(part, comments=True)
                        yield pytest.param(words[1:], id=f"{page.name}: {' '.join(words[1:4])}"[:70])


@pytest.fixture(scope="module")
def flags_of():
    """Returns a function that maps the name of a script or module to its flags, without running it."""
    flags_by_program = {}

    def names(program):
        if program not in flags_by_program:
            values = flags.FlagValues()
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(app, "run", lambda main, *args, **kwargs: None)
                for define in [name for name in dir(flags) if name.startswith("DEFINE_")]:
                    patch.setattr(flags, define, functools.partial(getattr(flags, define), flag_values=values))
                run = runpy.run_path if program.endswith(".py") else runpy.run_module
                with contextlib.suppress(ImportError):  # of a benchmark whose peer is not installed
                    run(program, run_name="__main__")
            source = TOP / (program if program.endswith(".py") else f"{program.replace('.', '/')}.py")
            written = re.findall(r'DEFINE_\w+\(\s*"(\w+)"', source.read_text()) if source.exists() else []
            flags_by_program[program] = set(values) | set(written)
        return flags_by_program[program]

    return names


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # runpy's, of modules that are imported already
@pytest.mark.parametrize("arguments", list(commands()))
def test_commands_use_flags_that_exist(arguments, flags_of):
    program, words = (arguments[1], arguments[2:]) if arguments[0] == "-m" else (arguments[0], arguments[1:])
    if program in ("venv", "pip"):
        return
    names = {word.removeprefix("--").partition("=")[0] for word in words if word.startswith("--")}
    known = flags_of(program)
    assert not {name for name in names if name not in known and name.removeprefix("no") not in known}


def test_there_are_commands_to_check():
    assert len(list(commands())) > 30


@pytest.mark.parametrize("page", [*PAGES, TOP / "CHANGELOG.md"], ids=lambda page: page.name)
def test_lines_are_short(page):
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 128 and not line.startswith("|")] == []


def snippets():
    for page in PAGES:
        for block in code_blocks(page):
            if re.search(r"(?m)^(from|import) \w+", block):
                yield pytest.param(block, id=page.name)


@pytest.mark.parametrize("block", list(snippets()))
def test_python_examples_import_names_that_exist(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{node.module} has no {alias.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_linked_and_named_files_exist(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"
    for path in re.findall(r"`((?:docproduct|data_pipeline|tests|benchmarks|notebooks)/[\w/.]*)`", text):
        assert (TOP / path).exists(), f"{page.name} names {path}"
