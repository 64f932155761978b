"""mkdocs' hooks: pages of the site that are made from the code while it is built, so that they cannot go stale.

One page for every command, from its parser; the Python API, from the public names and their docstrings; the notebooks of examples/.
mkdocs.yml names this file under ``hooks``. Nothing is written into docs/.
"""

import argparse
import importlib
import json
import re
import shutil
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import unetrpp
from unetrpp.core.command_line import Parser

if TYPE_CHECKING:  # tests make the pages without mkdocs
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parent.parent
COMMANDS, API, EXAMPLES = "commands", "api", "examples"
NOTEBOOKS = ("quickstart", "predict_and_look")
ROLE = re.compile(r":(?:func|class|meth|mod|attr|data):`~?([^`]+)`")  # Sphinx's, which mkdocstrings shows as they are
SOURCES = tempfile.TemporaryDirectory()  # a copy of the package, which mkdocstrings reads


def on_config(config: "MkDocsConfig") -> "MkDocsConfig":
    """Put the made pages into the navigation, and let mkdocstrings read a copy of the package.

    The copy has folders in place of the three links, which mkdocstrings does not follow.
    """
    made = {section: list(pages) for section, pages in made_pages().items()}
    config.nav = _with_pages(config.nav or [], made)
    copy = Path(SOURCES.name) / "unetrpp"
    if not copy.exists():
        shutil.copytree(ROOT / "unetrpp", copy, ignore=shutil.ignore_patterns("__pycache__"), copy_function=_copy)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [SOURCES.name]
    return config


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the made pages."""
    from mkdocs.structure.files import File

    for pages in made_pages().values():
        for path, content in pages.items():
            files.append(File.generated(config, path, content=content))
    return files


def made_pages() -> dict[str, dict[str, str]]:
    """By section: path of every made page -> its Markdown."""
    return {
        COMMANDS: {f"{COMMANDS}/{name}.md": command_page(name, module) for name, module in commands().items()},
        API: {f"{API}/functions.md": api_page("Functions", False), f"{API}/classes.md": api_page("Classes", True)},
        EXAMPLES: {f"{EXAMPLES}/{name}.md": notebook_page(ROOT / "examples" / f"{name}.ipynb") for name in NOTEBOOKS},
    }


def _with_pages(nav: list, made: dict[str, list[str]]) -> list:
    """The navigation of mkdocs.yml with the pages of a section in place of its name, such as ``commands/``."""
    items = []
    for item in nav:
        if isinstance(item, str):
            items += made.get(item.rstrip("/"), [item])
        else:
            items.append({title: _with_pages(v, made) if isinstance(v, list) else v for title, v in item.items()})
    return items


def _copy(source: str, target: str) -> None:
    """Copy a file; in Python code a cross-reference of Sphinx becomes the name as code, and a doctest is indented as code."""
    if source.endswith(".py"):
        text = ROLE.sub(r"`\1`", Path(source).read_text(encoding="utf8"))
        text = re.sub(r"^( *)(>>> .*?)(?:  # doctest: .*)?$", r"\1    \2", text, flags=re.MULTILINE)
        Path(target).write_text(text, encoding="utf8")
    else:
        shutil.copyfile(source, target)


def commands() -> dict[str, str]:
    """The name of every command -> its module."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
    return {name: target.partition(":")[0] for name, target in sorted(project["scripts"].items()) if name != "unetrpp"}


def parsers(module: str) -> list[Parser]:
    """The parsers of a command: one, or those of its first arguments."""
    found = importlib.import_module(module)
    if hasattr(found, "dataset_parser"):
        return [found.folder_parser(), *(found.dataset_parser(name) for name in found.layout_names())]
    return [found.build_parser()]


def command_page(name: str, module: str) -> str:
    found = parsers(module)
    if len(found) == 1:
        return "\n\n".join([f"# {name}", *parser_parts(found[0], "##")]) + "\n"
    parts = [f"# {name}", "Its first argument is `folder`, `list` (prints all datasets), or the name of a dataset."]
    for parser in found:
        parts += [f"## {parser.prog}", *parser_parts(parser, "###")]
    return "\n\n".join(parts) + "\n"


def parser_parts(parser: Parser, heading: str) -> Iterator[str]:
    """What ``--help`` says, as Markdown: the purpose, the usage, the arguments and the examples."""
    formatter = parser._get_formatter()
    yield _text(parser.description or "")
    yield _code(parser.format_usage().partition(": ")[2])
    for title, actions in (
        ("Arguments", [action for action in parser._actions if not action.option_strings]),
        ("Options", [action for action in parser._actions if action.option_strings]),
    ):
        if actions:
            yield f"{heading} {title}" + _anchor(parser, title)
            yield "\n".join(
                [f"| {title.lower()[:-1]} | |", "| --- | --- |", *(_row(formatter, action) for action in actions)]
            )
    if parser.epilog:
        yield f"{heading} Examples" + _anchor(parser, "Examples")
        yield _code("\n".join(line.strip() for line in parser.epilog.splitlines()[1:]))


def _anchor(parser: Parser, title: str) -> str:
    """An id for a heading that other parsers of the page have, too."""
    return f" {{ #{parser.prog.replace(' ', '-')}-{title.lower()} }}"


def _row(formatter: argparse.HelpFormatter, action: argparse.Action) -> str:
    words = formatter._expand_help(action) if action.help else ""
    return f"| `{formatter._format_action_invocation(action)}` | {_text(' '.join(words.split()))} |"


def _text(words: str) -> str:
    """Words in which Markdown finds nothing to mark up."""
    return re.sub(r"([\\`*_{}\[\]|#])", r"\\\1", words).replace("<", "&lt;").replace(">", "&gt;")


def _code(lines: str) -> str:
    return f"```\n{lines.strip()}\n```"


def api_page(title: str, classes: bool) -> str:
    """All public classes, which begin with a capital, or all public functions."""
    names = [name for name in unetrpp._PUBLIC if name[0].isupper() == classes]
    parts = [f"::: {unetrpp._PUBLIC[name]}.{name}" for name in sorted(names)]
    what = "`from unetrpp import NAME` takes each of these, and nothing else is imported before it is used."
    return "\n\n".join([f"# {title}", what, *parts]) + "\n"


def notebook_page(path: Path) -> str:
    """The text and the code of a notebook."""
    cells: Sequence[dict] = json.loads(path.read_text(encoding="utf8"))["cells"]
    parts = [
        "".join(cell["source"]) if cell["cell_type"] == "markdown" else f"```python\n{''.join(cell['source'])}\n```"
        for cell in cells
    ]
    return "\n\n".join([*parts, f"The notebook is `examples/{path.name}` in the repository."]) + "\n"
