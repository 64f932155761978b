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
    roots = constant("PACKAGE_DIR")
    on_disk = set()
    for package, folder in roots.items():
        for init in (ROOT / folder).rglob("__init__.py"):  # does not follow the three links
            on_disk.add(".".join((package, *init.parent.relative_to(ROOT / folder).parts)))
    assert sorted(constant("PACKAGES")) == sorted(on_disk)
    assert set(roots) == {"unetrpp", *(f"unetrpp.{room}" for room in ("dataset_conversion", "planners", "trainers"))}


def test_the_root_holds_packages_only():
    files = {path.name for path in (ROOT / "unetrpp").iterdir() if path.is_file()}
    assert files == {"__init__.py", "__init__.pyi", "__main__.py", "py.typed"}


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


def test_import_linter_orders_every_package():
    import tomllib

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    listed = [name for layer in layers for name in layer.split(" | ")]
    assert sorted(listed) == sorted(name for name in constant("PACKAGES") if name.count(".") == 1)
