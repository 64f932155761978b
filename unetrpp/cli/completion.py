"""`unetrpp_completion`: print a script with which a shell completes commands, options and their values."""

import argparse
import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from unetrpp.core.command_line import Parser, path_or_hub, run
from unetrpp.core.reply import Outcome

SHELLS = ("bash", "zsh", "tcsh")
EXAMPLES = """
unetrpp_completion bash > ~/.unetrpp_completion    then add to ~/.bashrc: source ~/.unetrpp_completion
unetrpp_completion tcsh > ~/.unetrpp_completion    then add to ~/.tcshrc: source ~/.unetrpp_completion
eval "$(unetrpp_completion zsh)"                   in ~/.zshrc, after compinit
"""


@dataclass(frozen=True)
class Completion:
    """What ``--json`` gives."""

    shell: str
    script: str


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_completion",
        "Print a script for a shell, which then completes commands, options and their values on the Tab key, for unetrpp_train "
        'as for unetrpp train. Needs pip install "unetrpp[completion]". Print it again after an update.',
        EXAMPLES,
        workspace=False,
    )
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or tcsh")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def result_types() -> dict[str, object]:
    """What ``--json`` gives."""
    return {"": Completion}


def work(arguments: argparse.Namespace) -> Outcome:
    script = completion_script(arguments.shell)
    print(script)
    return Outcome(Completion(arguments.shell, script))


def completion_script(shell: str) -> str:
    """The script of all commands for one of ``SHELLS``.

    Raises:
        UserError: shtab is not installed.
    """
    from unetrpp.core.errors import UserError

    try:
        import shtab
    except ModuleNotFoundError:
        raise UserError('shtab is not installed; run pip install "unetrpp[completion]"') from None
    parts = []
    for parser, prefix in _all_parsers():
        for path in _paths_of(parser):
            path.complete = shtab.FILE  # type: ignore[attr-defined]
        parts.append(shtab.complete(parser, shell, root_prefix=prefix))
    return "\n".join(parts)


def _all_parsers() -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """The parser of every command and of `unetrpp`, each with the prefix of its functions in the script."""
    from unetrpp.__main__ import PREFIX, commands, purpose

    named: dict[str, tuple[str, argparse.ArgumentParser]] = {}
    for name, script in sorted(commands().items()):
        parser = parser_of(importlib.import_module(script.module), script.name)
        named[name] = purpose(script), parser
        yield parser, script.name
    yield tree("unetrpp", named), f"{PREFIX}commands"


def parser_of(module: ModuleType, prog: str) -> argparse.ArgumentParser:
    """The parser of a command's module; where its first argument chooses among several parsers, one with all of them."""
    if hasattr(module, "parsers"):
        parsers: Mapping[str, Parser] = module.parsers()
        return tree(prog, {name: (parser.description or "", parser) for name, parser in parsers.items()})
    parser: Parser = module.build_parser()
    return parser


def tree(prog: str, parsers: Mapping[str, tuple[str, argparse.ArgumentParser]]) -> argparse.ArgumentParser:
    """A parser whose first argument chooses one of ``parsers``, given by name with what each is for."""
    root = argparse.ArgumentParser(prog)
    choice = root.add_subparsers()
    for name, (purpose, parser) in parsers.items():
        choice.add_parser(name, help=purpose.partition("\n")[0])
        choice.choices[name] = parser
    return root


def _paths_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments that are paths, or may be one."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _paths_of(inner)
        elif action.nargs != 0 and action.choices is None and _may_be_path(action):
            yield action


def _may_be_path(action: argparse.Action) -> bool:
    """Options say it by their type; an argument may also be a name in the workspace or a path."""
    return action.type in (Path, path_or_hub) or not (action.option_strings or action.type)


if __name__ == "__main__":
    sys.exit(main())
