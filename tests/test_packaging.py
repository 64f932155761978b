"""setup.py's lists against what is on disk."""

import ast
import importlib
import os
from pathlib import Path

ROOT = Path(__file__).parent.parent


def constant(name: str):
    """A literal of setup.py, read without running it."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"setup.py has no {name}")


def test_every_package_on_disk_is_listed():
    on_disk = {"unetrpp": "unetrpp"}
    for init in (ROOT / "unetrpp").glob("*/__init__.py"):
        if not init.parent.is_symlink():
            on_disk[f"unetrpp.{init.parent.name}"] = f"unetrpp/{init.parent.name}"
    for room in ("dataset_conversion", "planners", "trainers"):
        assert (ROOT / room / "__init__.py").is_file()
        on_disk[f"unetrpp.{room}"] = room
    assert constant("PACKAGE_DIR") == on_disk


def test_links_let_a_bare_checkout_import_the_rooms():
    for room in ("dataset_conversion", "planners", "trainers"):
        link = ROOT / "unetrpp" / room
        assert link.is_symlink()
        assert os.readlink(link) == f"../{room}"  # noqa: PTH115


def test_every_command_exists():
    for line in constant("COMMANDS"):
        target = line.split(" = ")[1]
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_import_linter_knows_every_ground_floor_module():
    import tomllib

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["tool"]["importlinter"]["contracts"]
    listed = {name.split(".")[1] for name in contracts[1]["source_modules"]}
    floor = {p.stem for p in (ROOT / "unetrpp").glob("*.py")} | {
        p.parent.name for p in (ROOT / "unetrpp").glob("*/__init__.py") if not p.parent.is_symlink()
    }
    assert listed == floor - {"__init__", "__main__"}


def test_public_names_resolve():
    import unetrpp

    for name in unetrpp.__all__:
        assert getattr(unetrpp, name) is not None
