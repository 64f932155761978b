"""Which axes are mirrored: not the left-right axis where labels distinguish left and right."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted
from unetrpp.dataset.labels import LabelScheme, label_table, output_table
from unetrpp.plans.fingerprint import CaseFingerprint, Fingerprint
from unetrpp.plans.plans import Decision

AXES = "zyx"  # canonical: head-foot, front-back, left-right
LEFT_RIGHT = 2
FEWEST_CASES = 3  # with a class, from which on its side is considered
SAME_SIDE = 0.9  # share of the cases in which it is on one side
OFF_CENTER = 0.15  # of the image's width, in the median
SIDES = {"left": "right", "l": "r", "lt": "rt", "lh": "rh"}


class Mirroring(NamedTuple):
    """Canonical axes that training and prediction mirror; ``pairs`` of training indices (left, right) that are swapped
    when the left-right axis is mirrored."""

    axes: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    decision: Decision


class PatchMirroring(NamedTuple):
    """What a configuration records: axes of its patch, which of them swaps labels, and those labels."""

    axes: tuple[int, ...]
    swap_axis: int | None
    swapped_labels: tuple[tuple[int, int], ...]


def of_patch(mirroring: Mirroring, order: Sequence[int], dimensions: int) -> PatchMirroring:
    """``mirroring`` on the axes of a patch in plan ``order``; a 2D patch lacks the first plan axis."""
    skipped = 3 - dimensions
    places = {axis: order.index(axis) - skipped for axis in mirroring.axes}
    axes = tuple(sorted(place for place in places.values() if place >= 0))
    side = places.get(LEFT_RIGHT, -1)
    if mirroring.pairs and side >= 0:
        return PatchMirroring(axes, side, mirroring.pairs)
    return PatchMirroring(axes, None, ())


def plan_mirroring(fingerprint: Fingerprint, labels: LabelScheme, asked: str = "auto") -> Mirroring:
    """``asked``: auto (by the labels), exchange (all axes, swapping left and right labels), all, none, or axes such as zy.

    Raises:
        UserError: there are no labels to swap, a region has no counterpart, or there are no such axes.
    """
    pairs = side_pairs(labels.names)
    if asked == "auto":
        return _by_labels(fingerprint, labels, pairs)
    if asked == "exchange":
        return _exchanged(labels, pairs)
    letters = {"all": AXES, "none": ""}.get(asked, asked)
    if not set(letters) <= set(AXES):
        raise UserError(
            f"--mirror {asked} is not auto, exchange, all, none, or axes among z, y and x (left-right) such as zy"
        )
    axes = tuple(axis for axis, letter in enumerate(AXES) if letter in letters)
    value = "all axes" if len(axes) == 3 else ", ".join(AXES[a] for a in axes) or "no axis"
    return Mirroring(axes, (), Decision(about="mirroring", value=value, why=f"asked for with --mirror {asked}"))


def _by_labels(fingerprint: Fingerprint, labels: LabelScheme, pairs: Sequence[tuple[int, int]]) -> Mirroring:
    reason = _one_sided(fingerprint, labels)
    regions = [region.name for region in labels.regions]
    if sides := side_pairs(regions):
        left, right = (regions[i] for i in sides[0])
        reason = f"regions {left!r} and {right!r} are a left/right pair"
    if pairs:
        left, right = (labels.names[i] for i in pairs[0])
        reason = f"labels {left!r} and {right!r} are a left/right pair (--mirror exchange would swap them)"
    if reason is None:
        why = (
            f"no two labels or regions are a left/right pair, and no class lies on one side of the {_body(fingerprint)}"
        )
        why += _most_lateral(fingerprint, labels)
        return Mirroring((0, 1, 2), (), Decision(about="mirroring", value="all axes", why=why))
    return Mirroring((0, 1), (), Decision(about="mirroring", value="not left-right", why=reason))


def _exchanged(labels: LabelScheme, pairs: tuple[tuple[int, int], ...]) -> Mirroring:
    if not pairs:
        raise UserError(
            f"--mirror exchange needs a left and a right label, but the labels are {', '.join(labels.names)}"
        )
    output_table(labels, label_table(labels, pairs))  # refuses a region without counterpart
    swapped = ", ".join(f"{labels.names[a]} and {labels.names[b]}" for a, b in pairs)
    why = f"--mirror exchange: {swapped} are swapped when an image is mirrored left-right"
    return Mirroring((0, 1, 2), pairs, Decision(about="mirroring", value="all axes, labels exchanged", why=why))


def side_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Indices of labels whose names differ only in their side, the left one first.

    >>> side_pairs(("background", "kidney_right", "liver", "kidney_left"))
    ((3, 1),)
    >>> side_pairs(("background", "LeftKidney", "RightKidney", "rhippo", "lhippo"))
    ((1, 2), (4, 3))
    >>> side_pairs(("RV", "MYO", "LV", "LV blood cavity", "RV blood cavity", "LVmyo", "RVmyo", "lvmyo", "rvmyo", "LAD", "RAD"))
    ()
    """
    words = [_words(name) for name in names]
    joined = ["".join(parts) for parts in words]
    found = {}
    for left, parts in enumerate(words):
        others = [SIDES.get(part, part) for part in parts]
        # Names without a separator: leftkidney, and lhippo. (The ventricles are no pair that mirrors: LV, lvmyo.)
        other = joined[left].replace("left", "right", 1)
        if re.fullmatch(r"l(?!v[^aeiou])[a-z]{4,}", names[left]) and other == joined[left]:
            other = f"r{other[1:]}"
        if others != parts and others in words:
            found[left] = words.index(others)
        elif other != joined[left] and other in joined:
            found[left] = joined.index(other)
    return tuple(found.items())


def _words(name: str) -> list[str]:
    """
    >>> _words("Left kidney"), _words("kidneyLeft")
    (['left', 'kidney'], ['kidney', 'left'])
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.casefold()) if word]


def _one_sided(fingerprint: Fingerprint, labels: LabelScheme) -> str | None:
    """The reason not to mirror left and right that the most lateral class gives, whatever its place among the labels."""
    measured = [(name, _offsets(fingerprint, name)) for name in (labels.names[index] for index in labels.foreground)]
    lateral = [(name, offsets) for name, offsets in measured if _is_lateral(offsets)]
    if not lateral:
        return None
    name, offsets = max(lateral, key=lambda found: abs(np.median(found[1])))
    middle = float(np.median(offsets))
    where, share = "left" if middle > 0 else "right", _share_on_side(offsets)
    return (
        f"label {name!r} lies on the {where} in {share:.0%} of {counted(len(offsets), 'case')}, "
        f"{abs(middle):.0%} of the {_body(fingerprint)}'s width off centre in the median "
        f"(limits: {SAME_SIDE:.0%} of the cases, {OFF_CENTER:.0%} of the width)"
    )


def _most_lateral(fingerprint: Fingerprint, labels: LabelScheme) -> str:
    """How far the dataset is from having a class on one side, in words; empty where no class is in enough cases."""
    medians = [
        (abs(float(np.median(offsets))), labels.names[index])
        for index in labels.foreground
        if len(offsets := _offsets(fingerprint, labels.names[index])) >= FEWEST_CASES
    ]
    if not medians:
        return ""
    middle, name = max(medians)
    return f" (farthest off centre: {name!r}, {middle:.0%} of the {_body(fingerprint)}'s width; limit {OFF_CENTER:.0%})"


def _body(fingerprint: Fingerprint) -> str:
    return "image" if fingerprint.flat or fingerprint.in_pixels else "body"


def _is_lateral(offsets: np.ndarray) -> bool:
    if len(offsets) < FEWEST_CASES or abs(np.median(offsets)) < OFF_CENTER:
        return False
    return _share_on_side(offsets) >= SAME_SIDE


def _share_on_side(offsets: np.ndarray) -> float:
    """The share of the cases in which the class is on the side of the median."""
    return float((np.sign(offsets) == np.sign(np.median(offsets))).mean())


def _offsets(fingerprint: Fingerprint, name: str) -> np.ndarray:
    """By case that has the class: how far left (+) or right (-) of the body's centre it is, as a share of the body's width.

    The body is the crop: air around it would make every class seem central.
    """
    return np.array([o for case in fingerprint.cases if (o := _offset(case, name)) is not None])


def _offset(case: CaseFingerprint, name: str) -> float | None:
    center = case.classes[name].center_lps_mm
    if center is None:
        return None
    return (center[0] - case.crop_center_lps_mm[0]) / (case.cropped_shape[LEFT_RIGHT] * case.spacing_mm[LEFT_RIGHT])
