import os
import shutil
import subprocess
import sys
import threading

import pytest

from data_pipeline.folders import files
from data_pipeline.folders.files import user_cache  # before conftest.py replaces it


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "f.txt"
    files.write_text(str(path), "old")
    with pytest.raises(RuntimeError, match="power cut"), files.whole_file(str(path)) as partial:
        with open(partial, "w") as file:
            file.write("half")
        raise RuntimeError("power cut")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f.txt"]


def test_a_text_must_be_utf8(tmp_path):
    (tmp_path / "f.txt").write_bytes("qué".encode("latin-1"))
    with pytest.raises(ValueError, match="f.txt is not UTF-8"):
        files.read_text(str(tmp_path / "f.txt"))
    with pytest.raises(FileNotFoundError, match="No file at .*g.txt"):
        files.read_text(str(tmp_path / "g.txt"))


def test_partial_files_of_a_killed_process_are_removed(tmp_path):
    for name in ("weights.safetensors", "weights.safetensors.123.partial", "mine.partial"):
        (tmp_path / name).write_text("x")
    files.remove_partial(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["mine.partial", "weights.safetensors"]


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder"
    with pytest.raises(RuntimeError, match="power cut"), files.whole_folder(str(path)) as partial:
        files.write_text(f"{partial}/a", "half")
        raise RuntimeError("power cut")
    assert list(tmp_path.iterdir()) == []
    with files.whole_folder(str(path)) as partial:
        files.write_text(f"{partial}/a", "one")
    with pytest.raises(FileExistsError, match="--overwrite"), files.whole_folder(str(path)):
        pass
    with (
        pytest.raises(FileExistsError, match=r"holds something else \(a, ...\) .* not replaced"),
        files.whole_folder(str(path), overwrite=True),
    ):
        pass
    assert [p.name for p in path.iterdir()] == ["a"]
    with files.whole_folder(str(path), overwrite=True, mark="a") as partial:
        files.write_json(f"{partial}/manifest.json", {"kind": "index"})
    with (
        pytest.raises(FileExistsError, match=r"something else \(manifest.json, ...\)"),
        files.whole_folder(str(path), overwrite=True, kind="negatives"),
    ):
        pass
    assert [p.name for p in path.iterdir()] == ["manifest.json"]
    (tmp_path / "list").mkdir()
    (tmp_path / "list/manifest.json").write_text("[]")
    with pytest.raises(FileExistsError, match="something else"):
        files.check_free(str(tmp_path / "list"), overwrite=True, kind="index")
    shutil.rmtree(tmp_path / "list")
    with files.whole_folder(str(path), overwrite=True, kind="index") as partial:
        files.write_json(f"{partial}/manifest.json", {"kind": "index"})
    link = tmp_path / "link"
    link.symlink_to(path)
    with files.whole_folder(str(link), overwrite=True) as partial:
        files.write_text(f"{partial}/c", "three")
    assert link.is_symlink()
    assert [p.name for p in path.iterdir()] == ["c"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "link"]


@pytest.mark.parametrize("folder", [files.whole_folder, files.resumable_folder])
def test_a_folder_that_is_replaced_is_there_at_every_moment(tmp_path, monkeypatch, folder):
    path, state = tmp_path / "folder", {"state": "one"} if folder is files.resumable_folder else {}
    with files.whole_folder(str(path)) as partial:
        files.write_text(f"{partial}/manifest.json", "{}")
    seen, rename = [], os.replace

    def replace(*names):
        rename(*names)
        seen.append(os.listdir(path))  # fails if a process that is killed now leaves no folder

    (tmp_path / f"folder.{os.getpid()}.replaced" / "left").mkdir(parents=True)  # by a killed process
    with folder(str(path), overwrite=True, **state) as partial:
        files.write_text(os.path.join(partial, "result" if state else "", "new"), "")
        monkeypatch.setattr("os.replace", replace)
    assert seen
    assert {tuple(names) for names in seen} <= {("manifest.json",), ("new",)}
    assert (os.listdir(path), os.listdir(tmp_path)) == (["new"], ["folder"])


def test_a_folder_is_replaced_where_names_cannot_be_exchanged(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    for name in ("a", "b"):
        with files.whole_folder(str(tmp_path / "folder"), overwrite=True, mark="a") as partial:
            files.write_text(f"{partial}/{name}", "")
    assert (os.listdir(tmp_path / "folder"), os.listdir(tmp_path)) == (["b"], ["folder"])


def test_what_killed_processes_replaced_is_removed_by_the_next_write(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    kept = [f"folder.{os.getppid()}.replaced", f"other.{ended.pid}.replaced", "folder.x.replaced"]
    for name in [*kept, f"folder.{ended.pid}.replaced", f"folder.{os.getpid()}.replaced"]:
        (tmp_path / name / "part").mkdir(parents=True)
    with files.whole_folder(str(tmp_path / "folder")):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted(["folder", *kept])


def test_a_killed_resumable_folder_is_continued(tmp_path):
    path = str(tmp_path / "folder")
    with pytest.raises(KeyboardInterrupt), files.resumable_folder(path, "one") as working:
        files.write_text(f"{working}/result/a", "kept")
        files.write_text(f"{working}/result/b.123.partial", "half")
        files.write_text(f"{working}/notes", "not of the result")
        raise KeyboardInterrupt
    assert not os.path.exists(path)
    with files.resumable_folder(path, "one") as working:
        assert sorted(os.listdir(f"{working}/result")) == ["a", "b.123.partial"]
        assert os.path.exists(f"{working}/notes")
    assert os.listdir(path) == ["a"]
    assert os.listdir(tmp_path) == ["folder"]


def test_another_state_or_an_error_starts_anew(tmp_path):
    path = str(tmp_path / "folder")
    with pytest.raises(KeyboardInterrupt), files.resumable_folder(path, "one") as working:
        files.write_text(f"{working}/result/a", "of another state")
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="bad"), files.resumable_folder(path, "two") as working:
        assert os.listdir(f"{working}/result") == []
        raise ValueError("bad")
    assert os.listdir(tmp_path) == []


def test_a_second_writer_of_a_folder_is_refused(tmp_path):
    path = str(tmp_path / "folder")
    with files.resumable_folder(path, "one"):
        with pytest.raises(BlockingIOError, match="Another process is writing"), files.resumable_folder(path, "one"):
            pass
        assert os.path.isdir(f"{path}.partial/result")


@pytest.mark.parametrize("folder", [files.whole_folder, lambda path, overwrite: files.resumable_folder(path, "", True)])
def test_a_file_is_not_replaced_by_a_folder(tmp_path, folder):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(FileExistsError, match="is a file"), folder(str(tmp_path / "file"), overwrite=True):
        pass
    assert (tmp_path / "file").read_text() == "kept"
    assert os.listdir(tmp_path) == ["file"]


def test_writers_take_turns(tmp_path):
    path, order = str(tmp_path / "new" / "vectors"), []
    begun = threading.Event()

    def second():
        begun.set()
        with files.taking_turns(path):
            order.append("second")

    thread = threading.Thread(target=second)
    with pytest.raises(RuntimeError, match="an error ends the turn, too"), files.taking_turns(path):
        thread.start()
        begun.wait()
        thread.join(0.3)
        order.append("first")
        raise RuntimeError("an error ends the turn, too")
    thread.join(10)
    assert order == ["first", "second"]


def test_a_killed_process_gives_up_its_turn(tmp_path):
    path = str(tmp_path / "vectors")
    code = f"import os; from data_pipeline.folders import files; files.taking_turns({path!r}).__enter__(); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    assert os.listdir(tmp_path) == ["vectors.lock"]
    with files.taking_turns(path):
        pass


def test_the_cache_is_in_the_users_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert user_cache("precision.json") == "/cache/docproduct/precision.json"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the XDG specification
    assert user_cache("precision.json") == "/somewhere/.cache/docproduct/precision.json"
    monkeypatch.setattr("os.path.expanduser", lambda path: path)  # a user without a home
    assert user_cache("precision.json") is None
