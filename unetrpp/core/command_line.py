"""What every command shares: parsing with nothing but the standard library, and exit codes.

0: done. 1: some cases failed, the others are done. 2: usage, or input that was refused before anything started.
A command's module imports the standard library and this file only; its work is imported after parsing, so that
``--help`` and usage errors are instant.
"""

import argparse
import errno
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from unetrpp import __version__
from unetrpp.core.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser that takes no abbreviations and names the nearest flag for an unknown one."""

    def __init__(self, prog: str, description: str, examples: str, *, workspace: bool = True):
        super().__init__(
            prog=prog,
            description=description,
            epilog="examples:\n" + "\n".join(f"  {line}" for line in examples.strip().splitlines()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument("--version", action="version", version=f"unetrpp {__version__}")
        self.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
        if workspace:
            self.add_argument(
                "--workspace",
                type=Path,
                metavar="DIR",
                help="folder with raw/, preprocessed/ and results/ (default: $UNETRPP_WORKSPACE, else ./unetrpp_workspace)",
            )

    def parse_args(self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None):  # type: ignore[no-untyped-def, override]
        arguments = list(sys.argv[1:] if args is None else args)
        self._refuse_unknown_flags(arguments)
        return super().parse_args(arguments, namespace)

    def _refuse_unknown_flags(self, arguments: list[str]) -> None:
        """Before anything else, so that a misspelt flag is not reported as a missing argument."""
        known = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        for argument in arguments:
            if argument == "--":
                return
            flag = argument.split("=")[0]
            if flag.startswith("--") and flag not in known:
                self.error(f"unknown option {flag}{_nearest(flag, known)}")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} ({self.prog} --help lists all options)\n")


def _nearest(word: str, known: list[str]) -> str:
    import difflib

    match = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {match[0]}?" if match else ""


def positive(text: str) -> int:
    """A type of arguments, as the next two."""
    value = _whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def not_negative(text: str) -> int:
    value = _whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, but is {value}")
    return value


def above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None


_IN_THE_WAY = "a file stands where a folder is needed; remove it or give another path"
_NO_RIGHT = "you may not write (or read) there; give another path or ask for the right"
_NO_ROOM = "free some space and give the same command again"
_MENDS = {
    errno.EACCES: _NO_RIGHT,
    errno.EPERM: _NO_RIGHT,
    errno.EROFS: _NO_RIGHT,
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
}


def _system_error(error: OSError) -> str:
    """What the operating system refused, where, and what to do about it."""
    where = f"{error.filename}: " if error.filename else ""
    mend = f"; {_MENDS[error.errno]}" if error.errno in _MENDS else " (--debug shows where)"
    return f"{where}{error.strerror or error}{mend}"


def run(parser: Parser, work: Callable[[argparse.Namespace], int], argv: Sequence[str] | None) -> int:
    """Parse, do the work and turn its errors into one sentence and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a label's name that a terminal or a pipe cannot show is no error
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)  # others chatter below it
    logging.getLogger("unetrpp").setLevel(logging.DEBUG if arguments.debug else logging.INFO)
    try:
        return work(arguments)
    except UserError as error:
        if arguments.debug:
            raise
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if arguments.debug:
            raise
        print(f"{parser.prog}: error: {_system_error(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; the same command resumes", file=sys.stderr)
        return 130
    except Exception as error:
        if arguments.debug:
            raise
        print(f"{parser.prog}: error: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        return 1
