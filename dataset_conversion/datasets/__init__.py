"""One file a dataset or layout: what it is, where it comes from, and how its cases are found.

Every module has its facts in its docstring, which `unetrpp_convert NAME --help` prints, and

- ``ABOUT``, an :class:`About`, for `unetrpp_convert list`;
- ``read(folder, **choices) -> Source``, which finds the cases below a folder; its keywords are the dataset's own options;
- ``add_options(parser)``, where it has options of its own, with the names of these keywords.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from unetrpp.core.command_line import Parser
    from unetrpp.dataset_conversion.source import Source


@dataclass(frozen=True)
class About:
    """What a user should know before a download."""

    title: str
    modality: str
    cases: str
    size: str  # of the download
    origin: str  # where a user gets it
    licence: str
    name: str | None = None  # of the raw dataset; None takes the name of the source


class Layout(Protocol):
    """A module of this package."""

    __doc__: str | None
    ABOUT: About
    read: Callable[..., "Source"]


def layout_names() -> list[str]:
    """The names that `unetrpp_convert` takes, without importing any of the modules."""
    return sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules([str(Path(__file__).parent)]))


def layout(name: str) -> Layout:
    """The module of a layout that :func:`layout_names` has."""
    return cast(Layout, importlib.import_module(f"{__name__}.{name.replace('-', '_')}"))


def add_options(name: str, parser: "Parser") -> None:
    """The dataset's own options."""
    getattr(layout(name), "add_options", lambda _: None)(parser)
