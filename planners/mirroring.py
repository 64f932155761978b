"""Which axes may be mirrored, in anatomical terms: not the left-right one where a label knows left from right."""

import re
from collections.abc import Sequence

import numpy as np

from unetrpp.fingerprint import CaseFingerprint, Fingerprint
from unetrpp.labels import LabelScheme
from unetrpp.plans import Decision

LEFT_RIGHT = 2  # canonical axis x
FEWEST_CASES = 3  # that must hold a class before its side counts
SAME_SIDE = 0.9  # share of the cases in which it lies on one side
OFF_CENTER = 0.15  # of the image's width, in the median
SIDES = {"left": "right", "l": "r", "lt": "rt", "lh": "rh"}


def mirror_axes(fingerprint: Fingerprint, labels: LabelScheme) -> tuple[tuple[int, ...], Decision]:
    """Canonical axes that training and prediction may mirror, and why."""
    reason = _paired(labels.names) or _one_sided(fingerprint, labels)
    if reason is None:
        why = "no label's name has a left or right twin and no class lies on one side of the body"
        return (0, 1, 2), Decision(about="mirroring", value="all axes", why=why)
    return (0, 1), Decision(about="mirroring", value="not left-right", why=reason)


def _paired(names: Sequence[str]) -> str | None:
    """A pair of labels that differ by their side only.

    >>> _paired(("background", "kidney_left", "kidney_right"))
    "labels 'kidney_left' and 'kidney_right' are a left/right pair"
    """
    words = {name: re.split(r"[^a-z0-9]+", name.casefold()) for name in names}
    for name, parts in words.items():
        twins = [[SIDES.get(part, part) for part in parts]]
        for other, other_parts in words.items():
            if other != name and other_parts in twins:
                return f"labels {name!r} and {other!r} are a left/right pair"
    return None


def _one_sided(fingerprint: Fingerprint, labels: LabelScheme) -> str | None:
    for index in labels.foreground:
        name = labels.names[index]
        offsets = np.array([o for case in fingerprint.cases if (o := _offset(case, name)) is not None])
        if len(offsets) < FEWEST_CASES or abs(np.median(offsets)) < OFF_CENTER:
            continue
        side = np.sign(np.median(offsets))
        share = float((np.sign(offsets) == side).mean())
        if share >= SAME_SIDE:
            where = "left" if side > 0 else "right"
            distance = abs(float(np.median(offsets)))
            return f"label {name!r} lies on the {where} in {share:.0%} of {len(offsets)} cases, {distance:.0%} of the width off centre"
    return None


def _offset(case: CaseFingerprint, name: str) -> float | None:
    """How far left (+) or right (-) of the image's centre a class lies, as a share of the width."""
    center = case.classes[name].center_lps_mm
    return None if center is None else center[0] / (case.shape[LEFT_RIGHT] * case.spacing_mm[LEFT_RIGHT])
