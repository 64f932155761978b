"""What a command did, and the one JSON object that it prints about that with ``--json`` (docs/json.md).

Everything else that a command prints goes to standard error then. The commands import this file before they parse, so msgspec is
imported with the first object.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

from unetrpp import __version__

FORMAT = 1  # grows when a key changes its meaning or goes; keys may be added without
FLAG = "--json"
STDOUT, STDERR = 1, 2  # file descriptors


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes:
        result: what the function behind the command returned or wrote: a record, a dataclass, or containers of them.
        code: the exit code.
        error: why the command ended early, a sentence for each reason; empty where it did not.
    """

    result: object = None
    code: int = 0
    error: str = ""


def is_asked_for(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON; looked up before it is parsed, as parsing may fail.

    >>> is_asked_for(["Liver", "--json"]), is_asked_for(["--", "--json"])
    (True, False)
    """
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return FLAG in options


_errors: list[str] | None = None  # of the commands that the one which answers has called


def note_error(sentence: str) -> None:
    """Remember an error of a command that another one, which answers in JSON, has called."""
    if _errors is not None:
        _errors.append(sentence)


def answer(command: str, work: Callable[[], Outcome]) -> Outcome:
    """Do the work of a command and print its outcome as the only thing on standard output; an exception passes through."""
    global _errors
    out, _errors = sys.stdout, []
    try:
        with redirect_stdout(sys.stderr), _file_to_stderr(out):
            outcome = work()
        sentences = dict.fromkeys([*_errors, *filter(None, [outcome.error])])  # its own is noted, too
        outcome = replace(outcome, error="\n".join(sentences))
        print_reply(command, outcome, out)
        return outcome
    finally:
        _errors = None


@contextmanager
def _file_to_stderr(out: TextIO) -> Iterator[None]:
    """Standard output goes to standard error also where libraries and processes write it without Python."""
    try:
        out.flush()
        kept = os.dup(STDOUT)
        os.dup2(STDERR, STDOUT)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.dup2(kept, STDOUT)
        os.close(kept)


def print_reply(command: str, outcome: Outcome, out: TextIO | None = None) -> None:
    """Print the object; in the first process of a training by torchrun alone."""
    if os.environ.get("RANK", "0") == "0" or "LOCAL_RANK" not in os.environ:
        print(reply_text(command, outcome), file=out or sys.stdout)


def reply_text(command: str, outcome: Outcome) -> str:
    """The object, indented, in ASCII where a terminal may need it so.

    >>> print(reply_text("unetrpp_cost", Outcome(code=2, error="no plans")).partition("version")[0])
    {
      "format": 1,
      "command": "unetrpp_cost",
      "
    """
    import msgspec

    reply = {
        "format": FORMAT,
        "command": command,
        "version": __version__,
        "exit_code": outcome.code,
        "error": outcome.error or None,
        "result": outcome.result,
    }
    try:
        content = msgspec.json.encode(reply, enc_hook=as_text)
    except UnicodeEncodeError:  # somewhere a file name that is not UTF-8
        content = msgspec.json.encode(_recordable(msgspec.to_builtins(reply, enc_hook=as_text)))
    return msgspec.json.format(content, indent=2).decode()


def _recordable(value: object) -> object:
    """Builtin values with all their texts as JSON can hold them."""
    from unetrpp.core.text import recordable

    if isinstance(value, str):
        return recordable(value)
    if isinstance(value, dict):
        return {_recordable(key): _recordable(item) for key, item in value.items()}
    return [_recordable(item) for item in value] if isinstance(value, list | tuple) else value


def as_text(value: object) -> str:
    """msgspec's hook for what it cannot encode: paths are text.

    Raises:
        NotImplementedError: any other type, which is a mistake in the command.
    """
    from unetrpp.core.text import recordable

    if isinstance(value, Path):
        return recordable(str(value))
    raise NotImplementedError(f"a result of type {type(value).__name__} has no form in JSON")
