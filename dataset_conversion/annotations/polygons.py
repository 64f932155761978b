"""Objects drawn into photographs: polygons, ellipses and run lengths as pixels.

Coordinates are x to the right and y downwards in pixels, with the edges of pixels at whole numbers: the first pixel reaches from
0 to 1 and has its centre at 0.5. COCO's own tools rasterise so (`rleFrPoly` of cocoapi/common/maskApi.c samples the columns at
x + 0.5), and labelme and CVAT draw on an image whose first pixel starts at 0.

A pixel belongs to an object when its centre lies inside it or on its outline.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.io.contours import filled

Points: TypeAlias = tuple[tuple[float, float], ...]  # x, y


class Area(NamedTuple):
    """The pixels of an object: ``mask`` (Y, X) with its upper left corner at ``top`` and ``left`` of the image."""

    top: int
    left: int
    mask: np.ndarray


class Shape(Protocol):
    """An object or a part of one."""

    def area(self, shape_yx: tuple[int, int]) -> Area:
        """Its pixels in an image of ``shape_yx``; what lies outside of the image is cut off."""


@dataclass(frozen=True)
class Polygon:
    """A closed outline; the last corner is joined to the first."""

    points: Points

    def __post_init__(self) -> None:
        _require_finite(*(value for point in self.points for value in point))

    def area(self, shape_yx: tuple[int, int]) -> Area:
        """By the even-odd rule where the outline crosses itself."""
        corners = np.array(self.points)
        left, top = np.clip(np.floor(corners.min(axis=0)), 0, shape_yx[::-1]).astype(int).tolist()
        right, bottom = np.clip(np.ceil(corners.max(axis=0)), (left, top), shape_yx[::-1]).astype(int).tolist()
        return Area(top, left, filled([corners - (left + 0.5, top + 0.5)], (bottom - top, right - left)))


@dataclass(frozen=True)
class Ellipse:
    """Radii along x and y before it is turned clockwise (y points downwards) about its centre."""

    centre: tuple[float, float]
    radii: tuple[float, float]
    degrees: float = 0.0

    def __post_init__(self) -> None:
        _require_finite(*self.centre, *self.radii, self.degrees)
        if min(self.radii) <= 0:
            raise ValueError("a radius that is not above 0")

    def area(self, shape_yx: tuple[int, int]) -> Area:
        reach = max(self.radii)
        spans = [
            (max(0, int(np.floor(c - reach))), min(n, int(np.ceil(c + reach)) + 1))
            for c, n in zip(self.centre, shape_yx[::-1], strict=True)
        ]
        x, y = (
            np.arange(start, max(start, stop)) + 0.5 - c for (start, stop), c in zip(spans, self.centre, strict=True)
        )
        cos, sin = np.cos(np.radians(self.degrees)), np.sin(np.radians(self.degrees))
        along, across = x * cos + y[:, None] * sin, y[:, None] * cos - x * sin
        return Area(spans[1][0], spans[0][0], (along / self.radii[0]) ** 2 + (across / self.radii[1]) ** 2 <= 1)


@dataclass(frozen=True)
class Runs:
    """Lengths of runs of pixels outside and inside by turns, outside first, which fill a box of the image.

    Attributes:
        box: top, left, height and width.
        by_column: whether runs go down the columns, as COCO's do, instead of along the rows.
    """

    lengths: tuple[int, ...]
    box: tuple[int, int, int, int]
    by_column: bool = False

    def area(self, shape_yx: tuple[int, int]) -> Area:
        """
        Raises:
            UserError: the runs do not fill the box, or it is larger than the image.
        """
        top, left, height, width = self.box
        if height > shape_yx[0] or width > shape_yx[1]:
            raise UserError(
                f"a mask of {width} x {height} pixels is larger than its image ({shape_yx[1]} x {shape_yx[0]}); export it again"
            )
        total = sum(self.lengths)
        if min(self.lengths, default=0) < 0 or total > height * width:
            raise UserError(
                f"run lengths of {total} pixels do not fill {height} x {width} pixels; export the annotations again"
            )
        # Some programs leave out the last run where it is outside.
        lengths = [*self.lengths, *((0,) if len(self.lengths) % 2 else ()), height * width - total]
        flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
        mask = flat.reshape(width, height).T if self.by_column else flat.reshape(height, width)
        y, x = max(0, -top), max(0, -left)
        return Area(top + y, left + x, mask[y : max(0, shape_yx[0] - top), x : max(0, shape_yx[1] - left)])


def _require_finite(*values: float) -> None:
    """
    Raises:
        ValueError: a value is infinite or no number.
    """
    if not all(map(math.isfinite, values)):
        raise ValueError("a coordinate that is no number")


def rectangle(left: float, top: float, right: float, bottom: float) -> Polygon:
    return Polygon(((left, top), (right, top), (right, bottom), (left, bottom)))


def decoded_lengths(text: str) -> tuple[int, ...]:
    """The run lengths of COCO's compressed strings.

    Every number is written in groups of five bits, the lowest first, each as a character from code 48 on, whose sixth bit says
    that more follow; from the fourth number on it is the difference to the last number but one (maskApi.c of cocoapi).

    Raises:
        UserError: another character, or an unfinished number.
    """
    lengths: list[int] = []
    number = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise UserError(
                f"run lengths hold the character {character!r}, which COCO's strings do not have; export them again"
            )
        number |= (code & 31) << shift
        shift += 5
        if not code & 32:
            signed = number - (1 << shift) if code & 16 else number
            lengths.append(signed + (lengths[-2] if len(lengths) > 2 else 0))
            number = shift = 0
    if shift:
        raise UserError("run lengths end within a number; export the annotations again")
    return tuple(lengths)


def encoded_runs(mask: np.ndarray, top: int, left: int) -> Runs:
    """The run lengths along the rows of a mask (Y, X) whose upper left pixel is at ``top`` and ``left``."""
    flat = np.concatenate([[False], mask.reshape(-1) > 0])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    lengths = np.diff(np.concatenate([[0], changes, [mask.size]]))
    return Runs(tuple(lengths.tolist()), (top, left, *mask.shape))
