"""Writes files and folders whole or not at all, and hashes them."""

import contextlib
import ctypes
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from typing import Any

from absl import logging

_PARTIAL = re.compile(r".+\.\d+\.partial")
_REPLACED = re.compile(r"(.+)\.(\d+)\.replaced")
_CWD, _RENAME_EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)


@contextlib.contextmanager
def whole_file(path: str) -> Iterator[str]:
    """Yields a temporary path beside `path`, which becomes `path` when the block ends without an error."""
    partial = f"{path}.{os.getpid()}.partial"
    try:
        yield partial
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def remove_partial(folder: str) -> None:
    """Removes the temporary files of processes that were killed. Nobody may be writing into the folder."""
    for name in os.listdir(folder):
        if _PARTIAL.fullmatch(name):
            os.remove(os.path.join(folder, name))


@contextlib.contextmanager
def whole_folder(path: str, overwrite: bool = False, kind: str = "", mark: str = "manifest.json") -> Iterator[str]:
    """Yields an empty temporary folder beside `path`, which becomes `path` when the block ends without an error.

    Args:
      path: the folder to write.
      overwrite: replace `path` if it is a folder of this kind. Any other folder is kept.
      kind: the entry "kind" in the file `mark` of such a folder; empty: the file is enough.
      mark: name of a file that every folder of this kind holds.

    Raises:
      FileExistsError: `path` exists, is not an empty folder, and may not be replaced.
    """
    path = check_free(path, overwrite, kind, mark)
    partial = f"{path}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    try:
        yield partial
        _replace_folder(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def resumable_folder(path: str, state: str, overwrite: bool = False, kind: str = "") -> Iterator[str]:
    """Yields a working folder beside `path`, whose `result` becomes `path` when the block ends without an error.

    If the process is killed, the working folder stays, and the next call with the same state yields it again. An error
    of the input or of the disk (ValueError, OSError) removes it.

    Args:
      path: the folder to write.
      state: hash of everything that decides its content.
      overwrite: see `whole_folder`.
      kind: see `whole_folder`.

    Raises:
      FileExistsError: `path` exists, is not an empty folder, and may not be replaced; see `whole_folder`.
      BlockingIOError: another process is writing it.
    """
    path = check_free(path, overwrite, kind, "manifest.json")
    working = f"{path}.partial"
    result, marker = os.path.join(working, "result"), os.path.join(working, "state")
    os.makedirs(working, exist_ok=True)
    with locked(working):
        if not os.path.exists(marker) or read_text(marker) != state:
            for entry in os.scandir(working):
                if entry.is_dir():
                    shutil.rmtree(entry.path)
            write_text(marker, state)
        os.makedirs(result, exist_ok=True)
        try:
            yield working
        except (ValueError, OSError):
            shutil.rmtree(working, ignore_errors=True)
            raise
        for entry in os.scandir(result):
            if entry.name.endswith(".partial"):  # left by a process that was killed
                os.remove(entry.path)
        _replace_folder(result, path)
        shutil.rmtree(working, ignore_errors=True)


def check_free(path: str, overwrite: bool | None = False, kind: str = "", mark: str = "manifest.json") -> str:
    """Returns the path behind links, after a check that a folder may be written there.

    Arguments and errors are those of `whole_folder`; `overwrite` is None for a command without this flag. A link stays
    a link: the folder that it points to is replaced.
    """
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isdir(path):
        raise FileExistsError(f"{path} is a file. Give the path of a folder.")
    names = os.listdir(path) if os.path.isdir(path) else []
    if names and not overwrite:
        remedy = "" if overwrite is None else ", or --overwrite to replace it"
        raise FileExistsError(f"{path} exists already. Give another folder{remedy}.")
    if names and not _is_of(os.path.join(path, mark), kind):
        raise FileExistsError(
            f"{path} holds something else ({sorted(names)[0]}, ...) than what is to be written there, and is not "
            "replaced. Give another folder, or remove it first."
        )
    return path


def _is_of(mark: str, kind: str) -> bool:
    """Returns whether the file that marks a folder is there and names this kind."""
    if not kind:
        return os.path.exists(mark)
    content = read_json(mark)
    return isinstance(content, dict) and content.get("kind") == kind


def _replace_folder(partial: str, path: str) -> None:
    """Exchanges the folders at once, so that one of the two is there at every moment, and deletes the old one.

    Where the system cannot (not Linux, or NFS), the old one is moved aside first: after a kill between both moves, it
    stands beside `path`, with the ending "replaced".
    """
    old = f"{path}.{os.getpid()}.replaced"
    if not os.path.isdir(path) or not os.listdir(path):
        os.replace(partial, path)
    else:
        shutil.rmtree(old, ignore_errors=True)  # of a killed process with the same number, as in containers
        os.replace(partial, old)
        if not _exchange(old, path):
            os.replace(old, partial)
            os.replace(path, old)
            os.replace(partial, path)
    _remove_replaced(path)


def _remove_replaced(path: str) -> None:
    """Removes the old folders of this path: that of this process, and what killed processes left."""
    folder, name = os.path.split(path)
    for entry in os.listdir(folder):
        match = _REPLACED.fullmatch(entry)
        if match and match[1] == name and (int(match[2]) == os.getpid() or not _is_running(int(match[2]))):
            shutil.rmtree(os.path.join(folder, entry), ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def _exchange(one: str, other: str) -> bool:
    """Exchanges the names of two folders in one step; returns whether the system could."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)  # in Linux's C libraries, but not in Python's os
    return renameat2 is not None and renameat2(_CWD, os.fsencode(one), _CWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Keeps other processes that lock the folder out while the block runs.

    Raises:
      BlockingIOError: another process is writing it.
    """
    import filelock  # here, because the processes of `prepare` hold no lock, and its import takes 50 ms

    try:
        held = filelock.FileLock(os.path.join(folder, "lock")).acquire(blocking=False)
    except filelock.Timeout as error:
        raise BlockingIOError(f"Another process is writing {folder}. Wait for it, or end it.") from error
    with held:
        yield


@contextlib.contextmanager
def taking_turns(path: str) -> Iterator[None]:
    """Lets one process of this machine at a time run the block, for the same `path`."""
    import filelock

    os.makedirs(os.path.dirname(path), exist_ok=True)
    lock = filelock.FileLock(f"{path}.lock")
    try:
        held = lock.acquire(blocking=False)
    except filelock.Timeout:
        logging.info("Waiting for another process, which writes %s.", path)
        held = lock.acquire()
    with held:
        yield


def sync_folder(path: str) -> None:
    """Returns when all files below a folder are on the disk, so that a crash of the machine keeps them."""
    for folder, _, names in os.walk(path):
        for name in [*names, ""]:
            descriptor = os.open(os.path.join(folder, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def read_text(path: str) -> str:
    """Returns the text of a UTF-8 file, without a byte order mark.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: it is not UTF-8.
    """
    size(path)
    with open(path, encoding="utf-8-sig", newline="\n") as file:
        try:
            return file.read()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 ({error}). Convert it first.") from error


def size(path: str) -> int:
    """Returns the number of bytes of a file.

    Raises:
      FileNotFoundError: the file is missing.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"No file at {path}. Check the path given as input.")
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path} is a folder. Expected a file.")
    return os.path.getsize(path)


def fingerprint(content: Any) -> str:
    """Returns the SHA-256 of JSON content, as hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_text(path: str, text: str) -> None:
    """Writes `text` as UTF-8."""
    with whole_file(path) as partial, open(partial, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def write_json(path: str, content: Any) -> None:
    """Writes `content` as indented JSON."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str) -> Any:
    """Returns the content of a JSON file; None if the file is missing.

    Raises:
      ValueError: the file is damaged.
    """
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}). Write or fetch it again.") from error


def user_cache(name: str) -> str | None:
    """Returns the path of a file or folder in docproduct's cache of this user; None where the user has no folder."""
    folder = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(folder):  # as the XDG specification asks
        folder = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(folder, "docproduct", name) if os.path.isabs(folder) else None


def sha256(path: str) -> str:
    """Returns the SHA-256 of a file, as hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
