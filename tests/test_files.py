import pytest

from data_pipeline import files


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "f.txt"
    files.write_text(str(path), "old")
    with pytest.raises(RuntimeError, match="power cut"), files.whole_file(str(path)) as partial:
        with open(partial, "w") as file:
            file.write("half")
        raise RuntimeError("power cut")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f.txt"]


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
    with files.whole_folder(str(path), overwrite=True) as partial:
        files.write_text(f"{partial}/b", "two")
    assert [p.name for p in path.iterdir()] == ["b"]
    link = tmp_path / "link"
    link.symlink_to(path)
    with files.whole_folder(str(link), overwrite=True) as partial:
        files.write_text(f"{partial}/c", "three")
    assert link.is_symlink()
    assert [p.name for p in path.iterdir()] == ["c"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "link"]
