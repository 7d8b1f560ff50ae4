"""The structure of the code: which package may import which, and what no file may contain."""

import ast
import graphlib
import pathlib

import pytest

TOP = pathlib.Path(__file__).parents[1]
FILES = sorted([*TOP.glob("*.py"), *TOP.glob("docproduct/**/*.py"), *TOP.glob("data_pipeline/**/*.py")])
TREES = {path.relative_to(TOP).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def importers(prefix):
    return {
        name
        for name, tree in TREES.items()
        if any(module == prefix or module.startswith(f"{prefix}.") for module in imported(tree))
    }


def test_data_pipeline_never_imports_docproduct():
    assert not {name for name in importers("docproduct") if name.startswith("data_pipeline/")}


@pytest.mark.parametrize("room", ["layers", "generation", "exports", "search", "training"])
def test_rooms_below_the_systems_know_no_system(room):
    assert not {name for name in importers("docproduct.systems") if name.startswith(f"docproduct/{room}/")}


def test_only_a_few_packages_know_gpt2s_config():
    users = {name for name in importers("docproduct.layers.gpt2_config") if name.startswith("docproduct/")}
    rooms = ("docproduct/layers/", "docproduct/systems/generator/", "docproduct/recipes/")  # recipes choose sizes
    assert {name for name in users if not name.startswith(rooms)} == set()


def test_faiss_is_imported_in_one_file():
    assert importers("faiss") == {"docproduct/search/faiss_engine.py"}


def test_clients_of_databases_are_imported_in_one_file_each():
    assert importers("pymilvus") == {"docproduct/search/milvus_store.py"}
    assert importers("psycopg") == {"docproduct/search/postgres_store.py"}


def test_matplotlib_is_imported_in_one_file():
    assert importers("matplotlib") == {"docproduct/training/curves.py"}


def test_modules_have_no_import_cycles():
    files = {name.removesuffix(".py").removesuffix("/__init__").replace("/", "."): name for name in TREES}

    def modules(name):
        """Yields our modules that a file imports; an imported name counts as its module."""
        for module in imported(TREES[name]):
            while module and module not in files:
                module = module.rpartition(".")[0]
            if module and files[module] != name:
                yield module

    graphlib.TopologicalSorter({module: set(modules(name)) for module, name in files.items()}).prepare()


def test_top_level_scripts():
    assert {name for name in TREES if "/" not in name} == {
        "serve.py",
        "setup.py",
        "train_embeddings.py",
        "train_gpt2.py",
    }


@pytest.mark.parametrize("name", TREES)
def test_file_conventions(name):
    tree, path = TREES[name], TOP / name
    assert ast.get_docstring(tree) or not path.read_text(encoding="utf-8"), "no docstring"
    assert path.stem not in ("utils", "common", "helpers", "misc")
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"assert on line {node.lineno}: raise an error that tells what to do"
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"bare except on line {node.lineno}"
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("tf.compat.v1", "tensorflow.compat.v1"):
            assert name == "docproduct/exports/graph_session.py", f"TF 1 on line {node.lineno}"
