"""Errors that a user can correct: each message is one sentence with the rule, the value and what to do."""

import errno
import os
import re
from collections.abc import Sequence


class UserError(Exception):
    """Bad input or a wrong request. Commands print the message without a traceback and exit with 2.

    ``case`` is the id of the case in question; the text of the error begins with it.
    """

    exit_code = 2

    def __init__(self, message: str, *, case: str | None = None):
        super().__init__(message)
        self.case = case

    def __str__(self) -> str:
        message = super().__str__()
        return f"{self.case}: {message}" if self.case else message


class SomeFailed(UserError):
    """A part of the work failed, and the rest is done. Commands exit with 1."""

    exit_code = 1


def refuse(problems: Sequence[str], where: object) -> None:
    """Refuse something for all of its problems at once, a line each where there are several.

    Raises:
        UserError: there is a problem; the text begins with ``where``.
    """
    if len(problems) == 1:
        raise UserError(f"{where}: {problems[0]}")
    if problems:
        raise UserError(f"{where} has {len(problems)} errors:" + "".join(f"\n- {problem}" for problem in problems))


_IN_THE_WAY = "there is a file where a folder is needed; remove it or give another path"
_NO_PERMISSION = "you have no permission to write (or read) there; give another path or ask for the permission"
_NO_SPACE = "free some space and give the same command again"
_NO_MEMORY = "end other programs, raise the limit (ulimit -v), give fewer --processes or use a larger machine"
_NO_GPU_MEMORY = "end other programs that use it, compute on the CPU (--device cpu) or take a larger GPU"
_TOO_MANY_FILES = "raise the limit (ulimit -n) or give fewer --processes, and give the same command again"
_ADVICE = {
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    errno.EROFS: _NO_PERMISSION,
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) or write to a disk that holds larger files, and give the same command again",
    errno.EMFILE: _TOO_MANY_FILES,
    errno.ENFILE: _TOO_MANY_FILES,
    errno.ENOMEM: _NO_MEMORY,
    errno.EAGAIN: "raise the limits on processes and memory (ulimit -u, -v) or give fewer --processes, and give the same command again",
    errno.EIO: "check the disk or the network drive, and give the same command again",
}
SPARE_FILES = 8  # that other threads may have closed since a library failed
_LIMITS = frozenset(_ADVICE) - {errno.EEXIST, errno.ENOTDIR}
# How libraries say that memory ran out: the C++ library, PyTorch, numpy, blosc2, OpenMP; and Python where C code loses the error.
_MEMORY_WORDS = (
    "bad_alloc",
    "bad allocation",
    "allocate memory",
    "unable to allocate",
    "out of memory",
    "failed to map segment",
    "error return without exception set",
    "returned null without setting an exception",
)
# How torch says that a GPU's memory ran out: its own allocators, the driver, cuDNN.
_GPU_MEMORY = re.compile(r"(CUDA|HIP|XPU|MPS backend)( error:)? out of memory|ALLOC_FAILED")
_ONEDNN_WITHOUT_MEMORY = "could not create a primitive"  # with more words where it has no such operation


def limit_of(error: BaseException) -> int | None:
    """The error number (errno) where the system refused memory, disk, files or a permission; None for any other error.

    Libraries in C++ raise a RuntimeError that has at most the words of the number. An error that was raised because of such a
    one counts as well.
    """
    if isinstance(error, UserError):
        return None
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in _LIMITS else None
    text = str(error)
    if "can't start new thread" in text:
        return errno.EAGAIN
    if any(words in text.lower() for words in _MEMORY_WORDS) or text == _ONEDNN_WITHOUT_MEMORY:
        return errno.ENOMEM
    named = next((number for number in _LIMITS if os.strerror(number) in text), None)
    if named is None and error.__cause__ is not None:
        return limit_of(error.__cause__)
    return named


def no_more_files() -> bool:
    """Whether the process may open only a few more files or none, for libraries that do not say why they failed."""
    opened: list[int] = []
    try:
        opened += (os.open(os.devnull, os.O_RDONLY) for _ in range(SPARE_FILES))
    except OSError:
        return True
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return False


def system_refusal(error: BaseException, where: object) -> OSError | None:
    """What to raise in place of "``where`` is damaged" where the system refused memory, files or a permission; else None."""
    number = limit_of(error)
    return None if number is None else OSError(number, os.strerror(number), str(where))


def in_words(error: BaseException) -> str:
    """One sentence about any error: what it was, for which file, and what to do about it.

    >>> in_words(OSError(errno.ENOSPC, "No space left on device", "out/a.nii.gz"))
    'out/a.nii.gz: No space left on device; free some space and give the same command again'
    >>> in_words(MemoryError()).split(";")[0]
    'memory ran out'
    >>> in_words(RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.")).split(";")[0]
    "the GPU's memory ran out"
    """
    if isinstance(error, UserError):
        return str(error)
    if _GPU_MEMORY.search(str(error)):
        return f"the GPU's memory ran out; {_NO_GPU_MEMORY}"
    number = limit_of(error)
    if number is None and isinstance(error, OSError):
        number = error.errno
    where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    if number in _ADVICE:
        what = "memory ran out" if number == errno.ENOMEM else os.strerror(number)
        return f"{where}{what}; {_ADVICE[number]}"
    if isinstance(error, OSError):
        return f"{where}{error.strerror or error} (--debug shows where)"
    return f"{type(error).__name__}: {error} (--debug shows where)"
