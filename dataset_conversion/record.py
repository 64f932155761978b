"""conversion.json: what a raw dataset was made from, which a later run must agree with."""

from pathlib import Path
from typing import Any

from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json
from unetrpp.dataset.description import DatasetDescription, read_description

PARTS = (("imagesTr", "_0000"), ("labelsTr", ""), ("imagesTs", "_0000"), ("labelsTs", ""))  # folder, first channel


class Conversion(Record, frozen=True, kw_only=True):
    """conversion.json: the source and the options of a conversion; a later run must have the same ones."""

    format: int = 1
    source: str
    options: dict[str, Any]


def earlier_conversion(folder: Path) -> Conversion | None:
    """The conversion that a raw dataset is from; None where it is from none, or no case of it was converted.

    Raises:
        UserError: conversion.json cannot be read.
    """
    path = folder / "conversion.json"
    holds_files = any(any((folder / part).glob("[!.]*")) for part, _ in PARTS)
    return read_json(path, Conversion) if path.exists() and holds_files else None


def earlier_description(folder: Path) -> DatasetDescription | None:
    """What dataset.json of an earlier conversion says; None where there is none that can be read."""
    try:
        return read_description(folder / "dataset.json", folder.name)
    except UserError:
        return None


def require_same_conversion(folder: Path, conversion: Conversion, overwrite: bool) -> None:
    """
    Raises:
        UserError: the folder holds another conversion, or a dataset that was not converted.
    """
    if overwrite:
        return
    earlier = earlier_conversion(folder)
    if earlier is not None and earlier != conversion:
        raise UserError(f"{folder} was converted from {earlier.source} with other options; give --name or --overwrite")
    if earlier is None and (folder / "dataset.json").exists():
        raise UserError(
            f"{folder} already holds a dataset that was not converted here; give another --name or --overwrite"
        )
