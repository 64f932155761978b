"""Files of single classes in the folder OUT/CASE: binary masks and surfaces."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from unetrpp.inference.segmentation import Segmentation
from unetrpp.io.images import write_segmentation

UNSAFE = re.compile(r"[^\w .()+-]|^\.|[ .]$")  # a hidden file, and endings that Windows drops, included
LONGEST = 100  # characters of a name


def class_file_names(names: tuple[str, ...]) -> dict[str, str]:
    """Class or region -> the name of its files, without ending; what file systems refuse becomes "_".

    >>> class_file_names(("left kidney", "T1/T2", "T1:T2", "Leber"))
    {'left kidney': 'left kidney', 'T1/T2': 'T1_T2', 'T1:T2': 'T1_T2_2', 'Leber': 'Leber'}
    """
    found: dict[str, str] = {}
    taken: set[str] = set()  # on Windows and macOS, Liver and liver are one file
    for name in names:
        safe = first = UNSAFE.sub("_", name)[:LONGEST]
        number = 1
        while safe.casefold() in taken:
            number += 1
            safe = f"{first}_{number}"
        taken.add(safe.casefold())
        found[name] = safe
    return found


def write_masks(folder: Path, ending: str, segmentation: Segmentation, segments: Mapping[str, tuple[int, ...]]) -> None:
    """Write a mask of 0 and 1 for each of ``segments`` (name -> values of the segmentation) into ``folder``."""
    files = class_file_names(tuple(segments))
    for name, values in segments.items():
        mask = np.isin(segmentation.array, values).astype(np.uint8)
        write_segmentation(folder / f"{files[name]}{ending}", mask, segmentation.geometry)
