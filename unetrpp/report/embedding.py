"""One case as a page holds it: image, labels and maps in one byte per voxel, reduced until they fit, and compressed."""

import base64
import gzip
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unetrpp.core.text import format_shape, listed
from unetrpp.io.geometry import Orientation, Spacing, canonical_orientation, reorder, to_canonical
from unetrpp.report.case_images import UNCERTAINTY, CaseImages
from unetrpp.report.grey_levels import first_window, grey_levels, nearest_level
from unetrpp.report.label_codes import BACKGROUND, IGNORED, LabelCodes

LEVELS = (256, 64)  # grey levels, and those of images that do not fit otherwise
MARGIN_MM, MARGIN_VOXELS = 15.0, 4  # around what is labelled, the larger of the two
MOST_COMPRESSION = 16  # never expected: larger arrays are reduced without trying to compress them
AXES = "zyx"
GATE_RANGE = (1, 99)  # percentiles

Shape = tuple[int, int, int]
Slices = tuple[slice, slice, slice]


@dataclass(frozen=True)
class EmbeddedMap:
    """The bytes of a map are equal steps from ``low`` to ``high``."""

    name: str
    kind: Literal["uncertainty", "gate"]
    low: float
    high: float


@dataclass(frozen=True)
class About:
    """What the viewer has to know of an embedded case; all in the order z, y, x.

    Attributes:
        shape: of the embedded arrays.
        whole: of the whole volume.
        start: the first voxel of the volume that is kept.
        steps: along each axis every so many voxels are kept.
        spacing: of the volume in mm.
        flat: whether it is a photograph.
        levels: the intensity of every byte of a channel.
        windows: by channel, the intensities that are black and white at first.
        reference: whether there is one.
        maps: that are embedded.
        note: what was left out.
    """

    shape: Shape
    whole: Shape
    start: Shape
    steps: Shape
    spacing: Spacing
    flat: bool
    levels: tuple[list[float], ...]
    windows: tuple[tuple[float, float], ...]
    reference: bool
    maps: tuple[EmbeddedMap, ...]
    note: str


@dataclass(frozen=True)
class Embedded:
    """``about`` goes into the page as JSON; ``data`` is the base64 of gzip of bytes (z, y, x): every channel, the
    prediction, the reference where there is one, every map."""

    about: About
    data: str


@dataclass(frozen=True)
class Reduction:
    """What of a case is kept: a box of the volume, so many grey levels, and every n-th voxel along z, y and x."""

    box: Slices
    levels: int
    steps: Shape = (1, 1, 1)

    @property
    def kept(self) -> Slices:
        z, y, x = (slice(s.start, s.stop, step) for s, step in zip(self.box, self.steps, strict=True))
        return z, y, x

    @property
    def shape(self) -> Shape:
        z, y, x = (len(range(s.start, s.stop, s.step)) for s in self.kept)
        return z, y, x


@dataclass(frozen=True)
class _Canonical:
    """The arrays of a case with z to the head, y to the back and x to the left; a photograph stays as it is."""

    channels: np.ndarray  # (C, Z, Y, X)
    labels: tuple[np.ndarray, ...]  # codes of the prediction, and of the reference
    maps: Mapping[str, np.ndarray]
    spacing: Spacing
    flat: bool

    @property
    def shape(self) -> Shape:
        z, y, x = self.channels.shape[1:]
        return z, y, x


def embed_case(images: CaseImages, codes: LabelCodes, channels: Sequence[str], largest: int) -> Embedded:
    """The case in at most ``largest`` characters.

    First the whole volume is tried; then the box around prediction and reference; then with fewer grey levels; then with
    every second voxel along the axis with the finest ones, and so on.

    Raises:
        UserError: the image holds NaN or infinite values, or the labels an unknown value.
    """
    case = _canonical(images, codes)
    for reduction in reductions(case.shape, _labelled_box(case), case.spacing):
        arrays = len(case.channels) + len(case.labels) + len(case.maps)
        if math.prod(reduction.shape) * arrays > MOST_COMPRESSION * largest and max(reduction.shape) > 1:
            continue
        embedded = _embed(case, reduction, channels)
        if len(embedded.data) <= largest or max(reduction.shape) == 1:
            break
    return embedded


def reductions(shape: Shape, box: Slices, spacing: Spacing) -> Iterator[Reduction]:
    """What is kept of a volume, from all of it on, less and less.

    >>> found = list(reductions((4, 8, 8), (slice(0, 4), slice(2, 6), slice(2, 6)), (3.0, 1.0, 1.0)))
    >>> [(r.shape, r.levels) for r in found[:5]]
    [((4, 8, 8), 256), ((4, 4, 4), 256), ((4, 4, 4), 64), ((4, 2, 4), 64), ((4, 2, 2), 64)]
    """
    z, y, x = (slice(0, n) for n in shape)
    if box != (z, y, x):
        yield Reduction((z, y, x), LEVELS[0])
    steps = [1, 1, 1]
    for levels in LEVELS:
        yield Reduction(box, levels)
    while max((reduction := Reduction(box, LEVELS[-1], (steps[0], steps[1], steps[2]))).shape) > 1:
        longer = [axis for axis in range(3) if reduction.shape[axis] > 1]
        steps[min(longer, key=lambda axis: spacing[axis] * steps[axis])] *= 2
        yield Reduction(box, LEVELS[-1], (steps[0], steps[1], steps[2]))


def _canonical(images: CaseImages, codes: LabelCodes) -> _Canonical:
    geometry = images.image.geometry
    flat = geometry.dimensions == 2
    turn = Orientation(axes=(0, 1, 2), flips=()) if flat else canonical_orientation(geometry)
    labels = [codes.encode(images.prediction, "prediction")]
    if images.reference is not None:
        labels.append(codes.encode(images.reference, "reference"))
    return _Canonical(
        channels=to_canonical(images.image.array, turn),
        labels=tuple(to_canonical(array, turn) for array in labels),
        maps={name: to_canonical(array, turn) for name, array in images.maps.items()},
        spacing=reorder(geometry.spacing_zyx_mm, turn.axes),
        flat=flat,
    )


def _labelled_box(case: _Canonical) -> Slices:
    """The box around all labelled voxels, with a margin; all of a photograph, and of a volume without any."""
    labelled = np.zeros(case.shape, bool)
    for codes in case.labels:
        labelled |= (codes != BACKGROUND) & (codes != IGNORED)
    whole = [slice(0, n) for n in case.shape]
    if case.flat or not labelled.any():
        return whole[0], whole[1], whole[2]
    found = []
    for axis, n in enumerate(case.shape):
        others = tuple(other for other in range(3) if other != axis)
        indices = np.flatnonzero(labelled.any(axis=others))
        margin = max(MARGIN_VOXELS, math.ceil(MARGIN_MM / case.spacing[axis]))
        found.append(slice(max(0, int(indices[0]) - margin), min(n, int(indices[-1]) + 1 + margin)))
    return found[0], found[1], found[2]


def _embed(case: _Canonical, reduction: Reduction, channels: Sequence[str]) -> Embedded:
    kept = reduction.kept
    values = [channel[kept] for channel in case.channels]
    named = list(zip(values, channels, strict=False))
    levels = [grey_levels(channel, name, reduction.levels) for channel, name in named]
    parts = [nearest_level(channel, found) for (channel, _), found in zip(named, levels, strict=True)]
    parts += [codes[kept] for codes in case.labels]
    ranges = {name: _map_range(name, array[kept]) for name, array in case.maps.items()}
    parts += [_as_bytes(array[kept], *ranges[name]) for name, array in case.maps.items()]
    content = gzip.compress(b"".join(part.tobytes() for part in parts), mtime=0)
    about = About(
        shape=reduction.shape,
        whole=case.shape,
        start=(kept[0].start, kept[1].start, kept[2].start),
        steps=reduction.steps,
        spacing=case.spacing,
        flat=case.flat,
        levels=tuple(levels),
        windows=tuple(first_window(channel, name) for channel, name in named),
        reference=len(case.labels) > 1,
        maps=tuple(
            EmbeddedMap(name, "uncertainty" if name in UNCERTAINTY else "gate", *limits)
            for name, limits in ranges.items()
        ),
        note=reduction_text(case.shape, reduction, [len(found) for found in levels]),
    )
    return Embedded(about, base64.b64encode(content).decode())


def _map_range(name: str, values: np.ndarray) -> tuple[float, float]:
    if name in UNCERTAINTY:
        return 0.0, 1.0
    low, high = (float(f"{value:.4g}") for value in np.percentile(values, GATE_RANGE))
    return (low, high) if low < high else (low, low + 1)


def _as_bytes(values: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled: np.ndarray = np.rint(255 * np.clip((values - low) / (high - low), 0, 1)).astype(np.uint8)
    return scaled


def reduction_text(whole: Shape, reduction: Reduction, levels: Sequence[int]) -> str:
    """What a picture leaves out, as a sentence.

    >>> box = (slice(2, 6), slice(0, 8), slice(0, 8))
    >>> reduction_text((9, 8, 8), Reduction(box, 64, (1, 2, 2)), [64])
    'Cropped to 4 x 8 x 8 of 9 x 8 x 8 voxels (z, y, x), around what is labelled; every 2nd along y and x; 64 grey levels.'
    """
    sizes = tuple(s.stop - s.start for s in reduction.box)
    cropped = f"Cropped to {format_shape(sizes)} of {format_shape(whole)} voxels (z, y, x), around what is labelled"
    parts = [cropped if sizes != whole else f"The whole image, {format_shape(whole)} voxels (z, y, x)"]
    for step in sorted(set(reduction.steps) - {1}):
        names = [name for name, each in zip(AXES, reduction.steps, strict=True) if each == step]
        ordinal = "2nd" if step == 2 else f"{step}th"
        parts.append(f"every {ordinal} along {listed(names)}")
    return f"{'; '.join(parts)}; {max(levels)} grey levels."
