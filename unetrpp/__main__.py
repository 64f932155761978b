"""The command `unetrpp`: lists all commands, and runs one of them (`unetrpp train ...` is `unetrpp_train ...`)."""

import importlib
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution

from unetrpp import __version__
from unetrpp.core.reply import FLAG, Outcome, is_asked_for, print_reply

PREFIX = "unetrpp_"


def commands() -> dict[str, EntryPoint]:
    """The console scripts of this package by short name, such as ``plan-and-preprocess``."""
    try:
        scripts = distribution("unetrpp").entry_points.select(group="console_scripts")
    except PackageNotFoundError:
        raise SystemExit("unetrpp: error: the package is not installed; run `pip install -e .` in its folder") from None
    return {s.name.removeprefix(PREFIX).replace("_", "-"): s for s in scripts if s.name.startswith(PREFIX)}


def purpose(script: EntryPoint) -> str:
    """What a command does: the first line of its module, after the colon."""
    described = importlib.import_module(script.module).__doc__ or ""
    return described.partition("\n")[0].partition(": ")[2].rstrip(".")


def overview(known: dict[str, EntryPoint]) -> str:
    """What ``unetrpp --help`` prints."""
    lines = [f"  {name:20s} {purpose(script)}" for name, script in sorted(known.items())]
    usage = "usage: unetrpp COMMAND [ARGUMENT ...]\n\ncommands (each has --help):"
    return "\n".join([usage, *lines, f"\nEach is also installed under its own name, such as {PREFIX}train."])


def show_overview(known: dict[str, EntryPoint], json: bool) -> None:
    """All commands, and what to run next in the workspace at hand."""
    from unetrpp.core.workspace import Workspace
    from unetrpp.report.next_step import next_steps

    workspace = Workspace.find()
    steps = next_steps(workspace)
    if json:
        purposes = {name: purpose(script) for name, script in sorted(known.items())}
        print_reply("unetrpp", Outcome({"commands": purposes, "workspace": workspace.root, "next": steps}))
        return
    print(overview(known))
    print(f"\nnext, in {workspace.root}:")
    print("\n".join(f"  {line}" for line in steps))


def refuse(message: str, json: bool) -> int:
    """Say why nothing is run; returns the exit code."""
    if json:
        print_reply("unetrpp", Outcome(code=2, error=message))
    print(f"unetrpp: error: {message}", file=sys.stderr)
    return 2


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    known = commands()
    if arguments[:1] == ["--version"]:
        print(f"unetrpp {__version__}")
        return 0
    if arguments in ([], [FLAG]):
        show_overview(known, json=bool(arguments))
        return 0
    if arguments[0] in ("-h", "--help"):
        print(overview(known))
        return 0
    name = arguments[0].replace("_", "-")
    if name not in known:
        from difflib import get_close_matches

        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        message = f"unknown command {arguments[0]}{hint} (unetrpp --help lists them)"
        return refuse(message, is_asked_for(arguments))
    run: Callable[[Sequence[str]], int] = known[name].load()
    return run(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
