"""What --input accepts, and what a run reports about how it read the files."""

import json
import pathlib
import subprocess
import sys

import pytest

from data_pipeline.corpora import Columns, Refusals
from data_pipeline.corpora.paths import find_inputs
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare

TABLE = "question,answer\nq,a\n"


def find(*values, columns=Columns()):
    return find_inputs([str(value) for value in values], columns, Refusals())


def test_a_folder_is_searched_for_tables_by_content(tmp_path, caplog):
    (tmp_path / "sub").mkdir()
    contents = {
        "b.CSV": TABLE,
        "part-00000": '{"question": "q", "answer": "a"}\n',
        "a.txt": TABLE,
        ".hidden.csv": TABLE,
        "README.md": "# About",
        "LICENSE.txt": "Free",
        "info.json": '{"name": "x"}',
        "_SUCCESS": "",
        "scan.pdf": "%PDF-1.7",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    refusals = Refusals()
    paths = find_inputs([str(tmp_path)], Columns(), refusals)
    assert paths == tuple(f"{tmp_path}/{name}" for name in ("a.txt", "b.CSV", "part-00000"))
    assert "scan.pdf is a PDF" in caplog.text
    assert ".hidden" not in caplog.text
    note = {"times": 6, "first": f"{tmp_path}/LICENSE.txt"}
    assert refusals.notes() == {"a file of a folder is left out, as it holds no table of questions and answers": note}
    # A table that cannot be read is an error.
    for name, content in (("x.csv", "question,answer\nqu\xe9,a\n"), ("x.csv", "question,query,answer\nq,r,a\n")):
        (tmp_path / name).write_bytes(content.encode("latin-1"))
        with pytest.raises(ValueError, match="x.csv (is not UTF-8|has several columns)"):
            find(tmp_path)


def test_a_folder_without_tables_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("# About")
    with pytest.raises(ValueError, match="holds no table of questions and answers.* Documents .* --rows=passages"):
        find(tmp_path)


def test_glob_patterns_are_expanded(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.csv", "a.csv", "c.tsv", "[1].csv", "sub/d.csv"):
        (tmp_path / name).write_text(TABLE)
    assert find(tmp_path / "?.csv") == (f"{tmp_path}/a.csv", f"{tmp_path}/b.csv")
    assert find(tmp_path / "**/d.csv") == (f"{tmp_path}/sub/d.csv",)
    assert find(tmp_path / "[1].csv") == (f"{tmp_path}/[1].csv",)  # a file of this name counts before the pattern
    with pytest.raises(FileNotFoundError, match=r"No file at .*/\*.json. Check"):
        find(tmp_path / "*.json")


def test_commas_separate_paths_or_belong_to_them(tmp_path):
    for name in ("x, y.csv", "x", "z.csv", "1,2,3.csv", "1"):
        (tmp_path / name).write_text(TABLE)
    paths = [f"{tmp_path}/{name}" for name in ("x, y.csv", "z.csv", "1,2,3.csv")]
    assert find(",".join(paths)) == tuple(paths)
    assert find(f"{tmp_path}/1,{tmp_path}/x, {tmp_path}/z.csv,") == tuple(
        f"{tmp_path}/{name}" for name in ("1", "x", "z.csv")
    )
    with pytest.raises(FileNotFoundError, match="No file at .*none.csv"):
        find(f"{tmp_path}/z.csv,{tmp_path}/none.csv")
    with pytest.raises(ValueError, match="z.csv is given twice"):
        find(tmp_path / "z.csv", tmp_path / "z.csv")


def test_notes_are_stored_in_the_manifest(tmp_path, vocab_file):
    (tmp_path / "a.csv").write_text('question;answer\nq;"a\nr;b\n')
    settings = PrepareSettings((str(tmp_path / "a.csv"),), vocab_file, dev_share=0)
    noted = {
        "fields stand between ';'": {"times": 1, "first": f"{tmp_path}/a.csv"},
        "a quote is text, as quoting does not fit": {"times": 1, "first": f"{tmp_path}/a.csv line 2"},
    }
    assert prepare(settings, str(tmp_path / "out"))["noted"] == noted
    assert PreparedFolder(str(tmp_path / "out")).manifest["noted"] == noted


def test_a_prepared_folder_of_an_older_version_is_read(tmp_path, vocab_file):
    (tmp_path / "a.csv").write_text(TABLE)
    settings = PrepareSettings((str(tmp_path / "a.csv"),), vocab_file, dev_share=0)
    prepare(settings, str(tmp_path / "out"))
    path = tmp_path / "out/manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["noted"]
    for name in ("delimiter", "header"):
        del manifest["settings"]["columns"][name]
    path.write_text(json.dumps(manifest))
    folder = PreparedFolder(str(tmp_path / "out"))
    assert folder.table(["question"]).to_pylist() == [{"question": "q"}]
    assert folder.fingerprint()


def test_the_command_takes_files_and_columns_from_flags(tmp_path, vocab_file):
    (tmp_path / "in, put").mkdir()
    (tmp_path / "in, put/a.csv").write_text("1;q one;a\n2;q two;b;\n")
    (tmp_path / "in, put/b.txt").write_text("3;q three;c\n")
    (tmp_path / "in, put/README").write_text("About")
    (tmp_path / "dev.json").write_text('{"question": "q four", "answer": ["d", "e"]}')
    command = [
        sys.executable,
        "-m",
        "data_pipeline.prepare",
        f"--input={tmp_path}/in, put",
        "--header=id,question,answer",
    ]
    command += [f"--dev_input={tmp_path}/dev.json", f"--tokenizer={vocab_file}", "--delimiter=;"]
    top = pathlib.Path(__file__).parents[1]
    done = subprocess.run([*command, f"--output_dir={tmp_path}/out"], cwd=top, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout.splitlines()[-1])
    assert shown["counts"]["train"]["pairs"] == 3
    assert shown["counts"]["dev"]["pairs"] == 2
    assert set(shown["noted"]) == {
        "a file of a folder is left out, as it holds no table of questions and answers",
        "--header does not count for objects, whose fields have names",
        "several answers in a row: each is a pair",
    }
    for note, entry in shown["noted"].items():
        assert f"{entry['first']}: {note}" in done.stderr
    done = subprocess.run(
        [*command, f"--output_dir={tmp_path}/out2", "--delimiter=||"], cwd=top, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "The delimiter is '||'; expected one character" in done.stderr
    assert "Traceback" not in done.stderr
