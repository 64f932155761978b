"""Temporary files and folders that killed processes left behind: found by their names, and removed by the next run."""

import os
import platform
import re
import shutil
import time
import zlib
from functools import cache
from pathlib import Path

PATTERN = re.compile(r"\.unetrpp-([0-9a-f]{8})-(\d+)\.(.+)", re.DOTALL)  # machine, process id, final name
OLD_S = 86_400.0  # no file takes a day to be written
CLOCKS_S = 3_600.0  # the clock of a file server may be wrong by so much


def temporary_name(name: str) -> str:
    """The hidden name under which this process writes what will be called ``name``.

    >>> PATTERN.fullmatch(temporary_name("a.nii.gz")).group(3)
    'a.nii.gz'
    """
    return f".unetrpp-{_machine()}-{os.getpid()}.{name}"


def replaced_name(name: str) -> str:
    """The name of the folder ``name``, inside the temporary folder, while a new one takes its place."""
    return f"{name}.replaced"


@cache
def remove_leftovers_once(folder: Path) -> None:
    """:func:`remove_leftovers`, but only the first time that this process asks for the folder."""
    remove_leftovers(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders in ``folder`` whose processes have ended.

    Processes of another machine, which may share the folder, cannot be seen: what they left is removed after a day. A
    folder that was about to be replaced, and has lost its name, gets it back. What cannot be removed stays.
    """
    try:
        found = [Path(entry) for entry in os.scandir(folder) if PATTERN.fullmatch(entry.name)]
    except OSError:  # no such folder, or it may not be read
        return
    for path in found:
        try:
            if _is_abandoned(path):
                remove_leftover(path)
        except OSError:  # another process removes it at the same time, or it may not be removed
            continue


def remove_leftover(path: Path) -> None:
    """Remove what has a :func:`temporary_name`, if it exists. A folder that was to be replaced gets its name back."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    name = path.name.partition("-")[2].partition(".")[2]
    target, replaced = path.with_name(name), path / replaced_name(name)
    if replaced.exists() and not target.exists():
        replaced.rename(target)
    shutil.rmtree(path)


def _is_abandoned(path: Path) -> bool:
    import psutil

    name, changed = PATTERN.fullmatch(path.name), path.lstat().st_ctime  # the other times of a link are its target's
    if name is None or name[1] != _machine():
        return time.time() - changed > OLD_S
    try:
        process = psutil.Process(int(name[2]))
        return bool(process.status() == psutil.STATUS_ZOMBIE or process.create_time() > changed + CLOCKS_S)
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


@cache
def _machine() -> str:
    """Eight hexadecimal digits for the machine, or for the container, in which process ids are unique."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = ""  # not Linux
    return f"{zlib.crc32(f'{platform.node()} {namespace}'.encode()):08x}"
