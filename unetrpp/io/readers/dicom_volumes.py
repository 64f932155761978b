"""Telling apart the volumes that one DICOM series may hold: times, echoes, diffusion weightings, or a slice twice."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset

from unetrpp.core.errors import UserError
from unetrpp.io.readers.dicom_frames import Frame
from unetrpp.io.readers.dicom_header import DISTINGUISHING, text

# What all images of one volume share; others, such as acquisition numbers, may differ from slice to slice.
CONSTANT = (
    "TemporalPositionIndex", "TemporalPositionIdentifier", "EffectiveEchoTime", "EchoTime", "EchoNumbers",
    "DiffusionBValue", "ComplexImageComponent",
)  # fmt: skip
BINARY = ("FD", "FL", "UL", "US", "SL", "SS")  # value representations that are no text
SIMILAR = 0.05  # by this share the echo times of one volume may differ


def require_one_volume(name: str, ordered: Sequence[Frame], along: np.ndarray, same: float) -> None:
    """Check that each position has one image, and that none is of another time, echo or diffusion weighting.

    Args:
        name: of the folder or file, for messages.
        along: positions of ``ordered`` along the normal, in mm.
        same: distance in mm up to which positions count as one.

    Raises:
        UserError: several volumes, or a slice that is there twice.
    """
    starts = np.concatenate([[True], np.diff(along) > same])
    if starts.all():
        _require_one_state(name, ordered)
        return
    group = np.cumsum(starts) - 1
    counts = np.bincount(group)
    members = [frame for frame, g in zip(ordered, group, strict=True) if g == np.argmax(counts > 1)]
    names = " and ".join(frame.name for frame in members[:2])
    uids = [text(frame.header.dataset, "SOPInstanceUID") for frame in members[:2]]
    if uids[0] and uids[0] == uids[1] and members[0].header is not members[1].header:
        raise UserError(f"{name} holds one slice twice ({names} have one SOPInstanceUID); remove one of them")
    if len(set(counts)) > 1 or len(counts) == 1:
        position = along[group == np.argmax(counts > 1)][0]
        raise UserError(
            f"{name} is not one volume: {names} lie at the same place ({position:.4g} mm along the normal)"
            f"{_difference(members)}; remove the slices that do not belong to it"
        )
    raise UserError(
        f"{name} holds {counts[0]} volumes ({len(counts)} positions, {counts[0]} images at each, such as {names})"
        f"{_difference(members)}; give one of them, its images in a folder of their own or converted to NIfTI"
    )


def _difference(members: Sequence[Frame]) -> str:
    """The first attribute in which images of one place differ, and its values."""
    for keyword in DISTINGUISHING:
        values = [value for value in _values(members, keyword) if value is not None]
        if len(values) == len(members) and len(set(values)) > 1:
            shown = list(Counter(values))
            return f", which differ in {keyword} ({', '.join(shown[:5])}{', ...' if len(shown) > 5 else ''})"
    return ""


def _require_one_state(name: str, frames: Sequence[Frame]) -> None:
    """
    Raises:
        UserError: volumes of several times or echoes that lie beside each other, so that no position repeats.
    """
    for keyword in CONSTANT:
        values = _values(frames, keyword)
        other = next((k for k, value in enumerate(values) if not _is_alike(values[0], value, keyword)), None)
        if other is not None:
            raise UserError(
                f"{name} holds several volumes: {frames[0].name} and {frames[other].name} differ in {keyword} "
                f"({values[0]} and {values[other]}); give one of them, its images in a folder of their own or converted to NIfTI"
            )


def _is_alike(one: str | None, other: str | None, keyword: str) -> bool:
    if one is None or other is None or one == other:
        return True
    return "EchoTime" in keyword and abs(float(one) - float(other)) <= SIMILAR * abs(float(one))


def _values(frames: Sequence[Frame], keyword: str) -> list[str | None]:
    """Of an attribute in every frame; it is sought where the first frame has it."""
    depth, macro = _where(frames[0], keyword)
    return [None if depth is None else _value(frame.groups[depth], macro, keyword) for frame in frames]


def _where(frame: Frame, keyword: str) -> tuple[int | None, str]:
    """The place of an attribute: the number of the functional groups, and the macro in them ("" for none)."""
    *groups, root = frame.groups
    for depth, group in enumerate(groups):
        for element in group:
            if element.VR == "SQ" and element.value and keyword in element.value[0]:
                return depth, element.keyword
    return (len(groups) if keyword in root else None), ""


def _value(group: Dataset, macro: str, keyword: str) -> str | None:
    items = group.get(macro) if macro else [group]
    if not items or keyword not in items[0]:
        return None
    return str(items[0][keyword].value) if dictionary_VR(keyword) in BINARY else text(items[0], keyword)
