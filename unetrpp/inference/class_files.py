"""Files of single classes in the folder OUT/CASE: binary masks and surfaces."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from unetrpp.core.workspace import RESERVED
from unetrpp.inference.segmentation import Segmentation
from unetrpp.io.images import write_segmentation
from unetrpp.io.surfaces import SURFACE_ENDINGS, write_surface

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
        safe = first = "_" * bool(RESERVED.fullmatch(name)) + UNSAFE.sub("_", name)[:LONGEST]
        number = 1
        while safe.casefold() in taken:
            number += 1
            safe = f"{first}_{number}"
        taken.add(safe.casefold())
        found[name] = safe
    return found


def write_class_files(
    folder: Path, segmentation: Segmentation, segments: Mapping[str, tuple[int, ...]], endings: Collection[str]
) -> None:
    """Write files for each of ``segments`` (name -> values of the segmentation) into ``folder``: a surface for an ending of
    ``SURFACE_ENDINGS``, a mask of 0 and 1 for that of an image format.

    Raises:
        UserError: the surface of a photograph is asked for.
    """
    files = class_file_names(tuple(segments)) if endings else {}
    for name, file in files.items():
        mask = np.isin(segmentation.array, segments[name])
        for ending in endings:
            path = folder / f"{file}{ending}"
            if ending in SURFACE_ENDINGS:
                write_surface(path, mask, segmentation.geometry)
            else:
                write_segmentation(path, mask.astype(np.uint8), segmentation.geometry)
