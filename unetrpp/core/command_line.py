"""What all commands share: the argument parser, number types for options, and exit codes.

0: done. 1: some cases failed, the others are done. 2: wrong usage, or input that was refused before anything started.
With ``--json`` one object on standard output says what was done, or why not (``unetrpp.core.reply``).
A command's module imports only the standard library and this file; it imports the code that does the work after
parsing, so that ``--help`` and usage errors are instant.
"""

import argparse
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from unetrpp import __version__
from unetrpp.core.errors import UserError, in_words
from unetrpp.core.nnunet_options import advice
from unetrpp.core.progress import BesideBars
from unetrpp.core.reply import Outcome, answer, is_asked_for, note_error, print_reply
from unetrpp.core.text import quoted

# GNU OpenMP's threads look so many times whether the others are done, and then sleep. Its own 300,000 times take milliseconds, in
# which a thread that waits keeps another program, or the thread that it waits for, from the core.
SPINS = "1000"
SKIP_UNREADABLE = "only name images and cases that cannot be read or used, and end with 0 if all others are done"


class Parser(argparse.ArgumentParser):
    """An argument parser that accepts no abbreviations and suggests the nearest flag for an unknown one.

    ``answers_json`` is set before parsing where the command line has ``--json``, so that a usage error is such an answer, too.
    """

    answers_json = False

    def __init__(self, prog: str, description: str, examples: str, *, workspace: bool = True, executor: bool = False):
        super().__init__(
            prog=prog,
            description=description,
            epilog="examples:\n" + "\n".join(f"  {line}" for line in examples.strip().splitlines()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument("--version", action="version", version=f"unetrpp {__version__}")
        self.add_argument("--debug", action="store_true", help="show tracebacks and debug messages")
        what = "print one JSON object about what was done, and all other text on standard error (docs/json.md)"
        self.add_argument("--json", action="store_true", help=what)
        if workspace:
            self.add_argument(
                "--workspace",
                type=Path,
                metavar="DIR",
                help="folder with raw/, preprocessed/ and results/ (default: $UNETRPP_WORKSPACE, else ./unetrpp_workspace)",
            )

        if executor:
            self.add_argument(
                "--executor",
                metavar="DASK",
                help="where cases are computed instead of in processes here: dask=tcp://HOST:PORT, or dask=local:WORKERS "
                "(needs unetrpp[dask]; docs/scale.md)",
            )

    def refuse_unknown_flags(self, arguments: Sequence[str]) -> None:
        """Exit for a misspelt flag, or one of nnU-Net; called before parsing, which would report a missing argument first, and
        would take -pretrained_weights for -p."""
        known = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        options = list(takewhile(lambda argument: argument != "--", arguments))
        if instead := advice(self.prog, options):
            self.error(instead)
        for argument in options:
            flag = argument.split("=")[0]
            if flag.startswith("--") and flag not in known:
                self.error(f"unknown option {flag}{nearest(flag, known)}")

    def error(self, message: str) -> NoReturn:
        if self.answers_json:
            print_reply(self.prog, Outcome(code=2, error=message))
        self.exit(2, f"{self.prog}: error: {message} ({self.prog} --help lists all options)\n")


def nearest(word: str, known: Sequence[str]) -> str:
    """A question for messages that names the most similar of ``known``; nothing where none is similar."""
    import difflib

    match = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {match[0]}?" if match else ""


def refuse_ignored(parser: argparse.ArgumentParser, arguments: argparse.Namespace, used: set[str], mode: str) -> None:
    """Refuse the options that were given (they differ from their default) where ``mode`` only looks at ``used``.

    Raises:
        UserError: there is one.
    """
    given = _given(parser, arguments, {"debug", "json", *used})
    ignored = [action.option_strings[-1] for action in given]
    if ignored:
        what = "has" if len(ignored) == 1 else "have"
        raise UserError(f"{' and '.join(ignored)} {what} no effect with {mode}; leave {_pronoun(ignored)} out")


def _pronoun(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"


def own_options(arguments: argparse.Namespace, *others: str) -> dict[str, Any]:
    """What was given to a command, by name, for the function behind it: without ``others``, and without the options that every
    command has."""
    return {name: v for name, v in vars(arguments).items() if name not in ("debug", "json", "executor", *others)}


def options_given(parser: argparse.ArgumentParser, arguments: argparse.Namespace, without: Collection[str] = ()) -> str:
    """The options that were given (they differ from their default), as a command line has them, each after a blank.

    >>> parser = argparse.ArgumentParser()
    >>> _ = parser.add_argument("--lr", type=float), parser.add_argument("--out", type=Path)
    >>> _ = parser.add_argument("--compile", action=argparse.BooleanOptionalAction)
    >>> options_given(parser, parser.parse_args(["--compile", "--out", "my model", "--lr", "1e-3"]))
    ' --lr 0.001 --out "my model" --compile'
    """
    text = ""
    for action in _given(parser, arguments, without):
        value = getattr(arguments, action.dest)
        flag = action.option_strings[0 if value is True else -1]  # --compile, --no-compile; -p, --plans-name
        values = value if isinstance(value, list) else [value]
        text += "".join(f" {flag}" if action.nargs == 0 else f" {flag} {quoted(each)}" for each in values)
    return text


def _given(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, without: Collection[str]
) -> list[argparse.Action]:
    """The options that differ from their default."""
    return [
        action
        for action in parser._actions
        if action.option_strings
        and action.dest not in without
        and getattr(arguments, action.dest, action.default) != action.default
    ]


def positive(text: str) -> int:
    """The type of an option that takes a whole number of at least 1."""
    value = _whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {value}")
    return value


def not_negative(text: str) -> int:
    """The type of an option that takes a whole number of at least 0."""
    value = _whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, but is {value}")
    return value


def above_zero(text: str) -> float:
    """The type of an option that takes a finite number above 0."""
    value = _number(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def not_below_zero(text: str) -> float:
    """The type of an option that takes a finite number of 0 or more."""
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return value


def named_share(text: str) -> tuple[str, float]:
    """The type of an option that takes NAME=P, a number above 0 and below 1 for a class.

    >>> named_share("lesion=0.3")
    ('lesion', 0.3)
    """
    name, _, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if not name or not 0 < value < 1:
        raise argparse.ArgumentTypeError(
            f"must be CLASS=P with P above 0 and below 1, such as lesion=0.3, not {text!r}"
        )
    return name, value


def by_name(pairs: Sequence[tuple[str, float]] | None, flag: str) -> dict[str, float]:
    """What an option of :func:`named_share` took, by class.

    Raises:
        UserError: a class is given twice.
    """
    names = [name for name, _ in pairs or ()]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{flag} is given twice for {twice[0]!r}; give one number for every class")
    return dict(pairs or ())


def path_or_hub(text: str) -> Path | str:
    """The type of an argument that takes a path, or an address of the model hub, which stays text.

    >>> path_or_hub("hf://clinic/liver@v1"), path_or_hub("model.zip").name
    ('hf://clinic/liver@v1', 'model.zip')
    """
    return text if text.startswith("hf://") else Path(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from None


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None


@contextmanager
def _executor(arguments: argparse.Namespace) -> Iterator[None]:
    """Inside of the cluster that --executor names, where it is given.

    Raises:
        UserError: it cannot be used, or an option for processes of this machine is given, too.
    """
    given = vars(arguments)
    if given.get("executor") is None:
        yield
        return
    from unetrpp.core.cluster import cluster

    for name in ("processes", "devices"):
        if given.get(name) is not None:
            raise UserError(
                f"--{name} is for processes of this machine, which --executor has none of; leave one of them out"
            )
    with cluster(arguments.executor):
        yield


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, which batch systems send before they kill, ends the command as Ctrl-C does. Signals are the main thread's."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def let_waiting_threads_sleep() -> None:
    """Let threads of operators that wait for each other sleep soon, unless the user decides.

    Read when torch is imported, in this process and in those that it starts. For commands whose number of threads is not chosen
    by timing: beside one busy process a prediction takes less than half of its time so, alone it is as fast. Steps of a
    training are shorter operators, which two threads compute a tenth slower so.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def run(parser: Parser, work: Callable[[argparse.Namespace], Outcome], argv: Sequence[str] | None) -> int:
    """Parse ``argv`` (default: the command line), call ``work``, and turn its errors into one sentence and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal cannot show must not end the command
        sys.stdout.reconfigure(errors="backslashreplace")
    given = list(sys.argv[1:] if argv is None else argv)
    parser.answers_json = is_asked_for(given)
    parser.refuse_unknown_flags(given)
    arguments = parser.parse_args(given)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[BesideBars()])  # of other packages
    logging.getLogger("unetrpp").setLevel(logging.DEBUG if arguments.debug else logging.INFO)
    compute = partial(_outcome, parser.prog, work, arguments)
    try:
        return (answer(parser.prog, compute) if arguments.json else compute()).code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _outcome(prog: str, work: Callable[[argparse.Namespace], Outcome], arguments: argparse.Namespace) -> Outcome:
    """What ``work`` did; its errors become a sentence, which is printed here."""
    try:
        with _terminable(), _executor(arguments):
            return work(arguments)
    except BrokenPipeError:
        raise
    except KeyboardInterrupt:
        again = (
            "with --overwrite the same command starts again"
            if vars(arguments).get("overwrite")
            else "the same command resumes"
        )
        sentence = f"interrupted; {again}"
        print(f"{prog}: {sentence}", file=sys.stderr)
        return Outcome(code=130, error=sentence)
    except Exception as error:
        if arguments.debug:
            raise
        sentence = in_words(error)
        print(f"{prog}: error: {sentence}", file=sys.stderr)
        note_error(sentence)
        return Outcome(code=error.exit_code if isinstance(error, UserError) else 1, error=sentence)
