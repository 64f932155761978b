"""Networks, planners and trainers by name: the built-in ones, and those that installed packages register."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import TypeVar

from unetrpp.errors import UserError

T = TypeVar("T")


def find(kind: str, name: str, built_in: Mapping[str, T]) -> T:
    """What is called ``name``: built in, else an entry point of the group ``unetrpp.<kind>s``.

    So a name that stands in plans or in a training's record leads to installed packages only, never to code in a file.

    Args:
        kind: network, planner or trainer.

    Raises:
        UserError: nothing is called so, or the package that registers it cannot be imported.
    """
    if name in built_in:
        return built_in[name]
    group = f"unetrpp.{kind}s"
    registered = entry_points(group=group)
    if name not in registered.names:
        known = ", ".join(sorted({*built_in, *registered.names}))
        raise UserError(f"{kind} {name!r} is not one of {known}; install the package that registers it under {group}")
    try:
        found: T = registered[name].load()
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"{kind} {name!r} is registered as {registered[name].value}, which cannot be imported ({error}); "
            "correct its package or install it again"
        ) from error
    return found
