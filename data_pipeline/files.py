"""Files and folders that are written whole or not at all, and their hashes."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[str]:
    """Yields a temporary path beside `path`, and renames it to `path` when the block ends without an error."""
    partial = f"{path}.partial"
    try:
        yield partial
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


@contextlib.contextmanager
def whole_folder(path: str, overwrite: bool = False) -> Iterator[str]:
    """Yields an empty temporary folder beside `path`, and renames it to `path` when the block ends without an error.

    Raises:
      FileExistsError: `path` exists, is not an empty folder, and `overwrite` is off.
    """
    path = os.path.realpath(path)  # behind a link, the folder is replaced, not the link
    if os.path.exists(path) and not overwrite and not (os.path.isdir(path) and not os.listdir(path)):
        raise FileExistsError(f"{path} exists already. Give another folder, or --overwrite to replace it.")
    partial, old = f"{path}.partial", f"{path}.old"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    os.makedirs(partial)
    try:
        yield partial
        # The old folder is moved aside and deleted last: at no moment are both the old and the new one gone.
        if os.path.isdir(path):
            os.replace(path, old)
        os.replace(partial, path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: str, text: str) -> None:
    """Writes `text` as UTF-8."""
    with whole_file(path) as partial, open(partial, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def write_json(path: str, content: Any) -> None:
    """Writes `content` as indented JSON."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str) -> Any:
    """Returns the content of a JSON file, None if there is none.

    Raises:
      ValueError: it is damaged.
    """
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}). Write or fetch it again.") from error


def sha256(path: str) -> str:
    """Returns the SHA-256 of a file, as hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
