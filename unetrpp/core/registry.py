"""Finding networks, planners, trainers and trackers by name: built-in ones, and those that installed packages register."""

import pkgutil
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, TypeVar

from unetrpp.core.errors import UserError
from unetrpp.core.nnunet_options import advice_on_class

T = TypeVar("T")


def find(kind: str, name: str, built_in: Mapping[str, T], allow_import_path: bool = False) -> T:
    """The built-in object called ``name``, else the entry point of this name in the group ``unetrpp.<kind>s``.

    A name in plans.json or training.json can therefore only lead to installed packages, never to code in a file.

    Args:
        kind: network, planner, trainer or tracker.
        allow_import_path: whether ``name`` may be ``package.module:Class``; only where the user gives it on the command line.

    Raises:
        UserError: nothing has this name, or it cannot be imported.
    """
    if name in built_in:
        return built_in[name]
    if ":" in name:
        imported: T = _imported(kind, name, allow_import_path)
        return imported
    group = f"unetrpp.{kind}s"
    registered = entry_points(group=group)
    if name not in registered.names:
        known = ", ".join(sorted({*built_in, *registered.names}))
        repair = advice_on_class(name) or f"install the package that registers it under {group}"
        raise UserError(f"{kind} {name!r} is not one of {known}; {repair}")
    try:
        found: T = registered[name].load()
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{kind} {name!r} is registered as {registered[name].value}, which cannot be imported ({error}); "
            "correct its package or install it again"
        ) from error
    return found


def _imported(kind: str, name: str, allow_import_path: bool) -> Any:
    if not allow_import_path:
        again = "" if kind == "network" else f", or give --{kind} {name} again"
        raise UserError(
            f"{kind} {name!r} is an import path from a file, and no code is imported from such paths; "
            f"register it under unetrpp.{kind}s{again}"
        )
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(
            f"--{kind} {name} cannot be imported ({error}); install its package or put its folder on PYTHONPATH"
        ) from error
