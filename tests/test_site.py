"""The site's pages: those that are made from the code hold every command, option and public name; mkdocs.yml lists all others."""

import re
import runpy
from pathlib import Path

import pytest
import yaml

import unetrpp
from tests.test_options import PARSERS, options

ROOT = Path(__file__).parent.parent
SITE = runpy.run_path(str(ROOT / ".ci" / "site.py"))


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return {path: text for pages in SITE["made_pages"]().values() for path, text in pages.items()}


@pytest.mark.parametrize("command", PARSERS)
def test_every_option_is_on_its_commands_page(command, made):
    page = made[f"commands/unetrpp_{command.split()[0].replace('-', '_')}.md"]
    section = page.partition(f"## unetrpp_{command}\n")[2] if " " in command else page
    shown = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", section))
    assert options(PARSERS[command]()).keys() <= shown


def test_every_command_has_a_page(made):
    expected = {f"commands/unetrpp_{command.split()[0].replace('-', '_')}.md" for command in PARSERS}
    assert {path for path in made if path.startswith("commands/")} == expected


def test_every_public_name_is_on_a_page(made):
    shown = [line for path, text in made.items() if path.startswith("api/") for line in text.splitlines()]
    modules = vars(unetrpp)["_PUBLIC"]
    assert sorted(line for line in shown if line.startswith(":::")) == sorted(
        f"::: {module}.{name}" for name, module in modules.items()
    )


def test_help_texts_are_not_taken_for_markup():
    assert SITE["_text"]("a <plans>__<configuration> | `x`") == r"a &lt;plans&gt;\_\_&lt;configuration&gt; \| \`x\`"


def test_notebooks_become_pages(made):
    expected = [f"examples/{path.stem}.md" for path in sorted((ROOT / "examples").glob("*.ipynb"))]
    assert sorted(path for path in made if path.startswith("examples/")) == expected
    page = made["examples/quickstart.md"]
    assert page.startswith("# Quickstart")
    assert "planned.plans.show()\n```" in page


def pages(nav) -> list[str]:
    """The files that a part of the navigation names."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in pages(part)]


def test_every_page_is_in_the_navigation_once():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf8"))["nav"]
    listed = pages(nav)
    assert sorted(page for page in listed if page.endswith(".md")) == sorted(
        path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")
    )
    assert sorted(page for page in listed if page.endswith("/")) == ["api/", "commands/", "examples/"]
    found = SITE["_with_pages"](nav, {"commands": ["commands/unetrpp_train.md"], "api": [], "examples": []})
    assert "commands/unetrpp_train.md" in pages(found)
    assert not any(page.endswith("/") for page in pages(found))
