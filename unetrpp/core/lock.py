"""A lock on what only one process may write at a time: a second process is refused, and told who the first one is.

The system holds the lock (``flock``, on Windows ``msvcrt.locking``), so it ends with the process, however that ends: a lock file
that a killed process left behind locks nothing. On a network file system the server holds it, for all machines, and takes it
back from a machine that it no longer hears; where a server does not, deleting the file ends the lock. A file system without locks
is used without.
"""

import errno
import logging
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unetrpp.core.errors import UserError

LOG = logging.getLogger(__name__)
HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
_descriptors: set[int] = set()  # of the locks that this process holds


@contextmanager
def locked(path: Path, what: str, hint: str) -> Iterator[None]:
    """Hold the lock of the file ``path`` while entered; the file, and folders that were made for it and are empty, go again.

    Args:
        path: a hidden file beside what it protects.
        what: what only one process may do, such as "fold 0 is being trained"; the refusal begins with it.
        hint: what the user can do.

    Raises:
        UserError: another process, or another thread of this one, holds the lock.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _acquire(path, what, hint)
    try:
        yield
    finally:
        if descriptor is not None:
            _release(path, descriptor)
        with suppress(OSError):  # not empty
            for folder in made:
                folder.rmdir()


def _acquire(path: Path, what: str, hint: str) -> int | None:
    """The descriptor of the locked file; None where the file system has no locks, or does not let this user write."""
    while True:
        descriptor: int | None = None
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            _lock(descriptor)
            if _is_at(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())
                _descriptors.add(descriptor)
                return descriptor
            os.close(descriptor)  # its holder has ended and deleted it meanwhile
        except OSError as error:
            if descriptor is None or error.errno not in HELD:
                LOG.info("%s cannot be locked (%s): nothing keeps a second run away", path, error.strerror)
                if descriptor is not None:
                    os.close(descriptor)
                return None
            holder = _holder(descriptor)
            os.close(descriptor)
            raise UserError(f"{what} by {holder}; {hint}{_if_gone(path, holder)}") from None


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def _holder(descriptor: int) -> str:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        return os.read(descriptor, 1000).decode(errors="replace") or "another process"
    except OSError:
        return "another process"


def _if_gone(path: Path, holder: str) -> str:
    """How to end the lock of a machine that the file server still waits for."""
    return "" if holder.endswith(f" on {platform.node()}") else f" (if that machine is gone, delete {path})"


def _release(path: Path, descriptor: int) -> None:
    """Delete the file while it is still locked, or it could be another process's; Windows deletes no open file, nor does it then."""
    with suppress(OSError):
        if sys.platform != "win32":
            path.unlink()
    _descriptors.discard(descriptor)
    os.close(descriptor)
    with suppress(OSError):
        if sys.platform == "win32":
            path.unlink()


def _leave_to_parent() -> None:
    """In a forked process: give up the locks, or they would outlive the process that holds them."""
    while _descriptors:
        os.close(_descriptors.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)

if sys.platform == "win32":
    import msvcrt

    BEYOND = 1 << 30  # a locked byte cannot be read by others, so it lies beyond the holder's name

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, BEYOND, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
