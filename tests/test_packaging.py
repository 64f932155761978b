"""pyproject.toml's and setup.py's lists against what is on disk and what the code imports."""

import ast
import importlib
import os
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("dataset_conversion", "planners", "trainers")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))
PROJECT = PYPROJECT["project"]


def constant(name: str, file: str = "setup.py"):
    """A literal of a file, read without running it."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"{file} has no {name}")


def names(requirements: list[str]) -> set[str]:
    """The names of the packages, as normalised by PEP 503."""
    return {re.sub(r"[-_.]+", "-", re.split(r"[<>=!\[; ]", line)[0]).lower() for line in requirements}


class AtRuntime(ast.NodeTransformer):
    """Takes out what stands below ``if TYPE_CHECKING``."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def third_party_imports(folders: tuple[str, ...]) -> set[str]:
    """The top-level modules that files below the folders import, also inside functions, but not for type checkers alone.

    Neither the standard library's nor ours.
    """
    found = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(AtRuntime().visit(ast.parse(path.read_text(encoding="utf8")))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                    found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"unetrpp"}


def test_every_package_on_disk_is_listed():
    roots = constant("PACKAGE_DIR")
    on_disk = set()
    for package, folder in roots.items():
        for init in (ROOT / folder).rglob("__init__.py"):  # does not follow the three links
            on_disk.add(".".join((package, *init.parent.relative_to(ROOT / folder).parts)))
    assert sorted(constant("PACKAGES")) == sorted(on_disk)
    assert set(roots) == {"unetrpp", *(f"unetrpp.{room}" for room in ROOMS)}


def test_the_root_holds_packages_only():
    files = {path.name for path in (ROOT / "unetrpp").iterdir() if path.is_file()}
    assert files == {"__init__.py", "__init__.pyi", "__main__.py", "py.typed"}


def test_links_let_a_bare_checkout_import_the_rooms():
    for room in ROOMS:
        link = ROOT / "unetrpp" / room
        assert link.is_symlink()
        assert os.readlink(link) == f"../{room}"  # noqa: PTH115


def test_every_command_exists():
    for target in PROJECT["scripts"].values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_every_imported_package_is_a_dependency():
    """An environment for tests holds more than the dependencies, and would hide one that is missing."""
    distributions = packages_distributions()
    extras = PROJECT["optional-dependencies"]
    optional = names([line for extra, lines in extras.items() if extra != "test" for line in lines])
    declared = names(PROJECT["dependencies"])
    imported = third_party_imports(("unetrpp", *ROOMS))
    undeclared = {
        module for module in imported if not names(distributions.get(module, [module])) & (declared | optional)
    }
    assert undeclared == set()
    used = set().union(*(names(distributions.get(module, [module])) for module in imported))
    assert declared - used == set()


def test_the_tests_install_what_the_extras_name():
    extras = PROJECT["optional-dependencies"]
    named = [
        line
        for extra in ("dicom", "onnx", "zarr", "notebook", "niivue", "hub", "dask", "serve", "completion")
        for line in extras[extra]
    ]
    assert set(named) <= set(extras["test"])


def test_nox_installs_every_extra():
    """`nox -s extras` needs to know what each one makes possible; nox itself need not be installed."""
    assert constant("EXTRAS", "noxfile.py").keys() == PROJECT["optional-dependencies"].keys()


def test_import_linter_orders_every_package():
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    listed = [name for layer in layers for name in layer.split(" | ")]
    assert sorted(listed) == sorted(name for name in constant("PACKAGES") if name.count(".") == 1)
