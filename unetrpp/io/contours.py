"""Polygons as pixels and back: a pixel belongs to a closed contour when its centre lies inside it or on it.

A polygon is an array (n, 2) of x and y in pixels, in which the centre of pixel (y, x) lies at (x, y); its last point is joined
to its first one.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

ON_CONTOUR = 1e-6  # of a pixel: what the rounding of decimals moves a contour that runs through centres
TOUCHING = np.ones((3, 3), int)  # pixels that meet at a corner are one piece


def filled(polygons: Sequence[np.ndarray], shape_yx: tuple[int, int]) -> np.ndarray:
    """The pixels (Y, X), as booleans, whose centre lies inside an odd number of polygons, or on one.

    So a polygon inside another one is a hole, and one inside the hole an island. What lies outside of the image is cut off.
    """
    crossings = np.zeros((shape_yx[0], shape_yx[1] + 1), np.int32)  # by row and by the first column at or behind them
    on = np.zeros(shape_yx, bool)
    for polygon in polygons:
        points = np.asarray(polygon, float)
        ends = np.roll(points, -1, axis=0)
        _count_crossings(points, ends, crossings)
        _mark_centres(points, ends, on)
    behind = np.cumsum(crossings[:, ::-1], axis=1)[:, -2::-1]  # crossings to the right of each centre
    inside: np.ndarray = (behind % 2 == 1) | on
    return inside


def _count_crossings(points: np.ndarray, ends: np.ndarray, crossings: np.ndarray) -> None:
    """Add where the edges cross the rows: an edge has its lower end and not its upper one, so that none counts twice."""
    rows, columns = crossings.shape[0], crossings.shape[1] - 1
    low = np.minimum(points[:, 1], ends[:, 1])
    high = np.maximum(points[:, 1], ends[:, 1])
    edge, row = _steps(np.ceil(low), np.ceil(high) - 1, rows)
    (x, y), (dx, dy) = points[edge].T, (ends - points)[edge].T
    column = np.clip(np.ceil(x + (row - y) * dx / dy), 0, columns).astype(int)
    np.add.at(crossings, (row, column), 1)


def _mark_centres(points: np.ndarray, ends: np.ndarray, on: np.ndarray) -> None:
    """Mark the centres on the edges: each is followed along the axis in which it is longer."""
    steep = np.abs(ends[:, 1] - points[:, 1]) >= np.abs(ends[:, 0] - points[:, 0])
    for along, chosen, target in ((1, steep, on), (0, ~steep, on.T)):
        start, end = points[chosen], ends[chosen]
        low = np.minimum(start[:, along], end[:, along]) - ON_CONTOUR
        high = np.maximum(start[:, along], end[:, along]) + ON_CONTOUR
        edge, step = _steps(np.ceil(low), np.floor(high), target.shape[0])
        length = end[edge, along] - start[edge, along]
        share = (step - start[edge, along]) / np.where(length == 0, 1, length)
        other = start[edge, 1 - along] + np.clip(share, 0, 1) * (end - start)[edge, 1 - along]
        centre = np.rint(other)
        meets = (np.abs(other - centre) <= ON_CONTOUR) & (centre >= 0) & (centre < target.shape[1])
        target[step[meets], centre[meets].astype(int)] = True


def _steps(first: np.ndarray, last: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Every whole number from ``first`` to ``last`` of each edge that is one of range(count), with the number of the edge."""
    first = np.clip(first, 0, count).astype(int)
    many = np.maximum(np.clip(last, -1, count - 1).astype(int) - first + 1, 0)
    edge = np.repeat(np.arange(len(first)), many)
    within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
    return edge, first[edge] + within


def outlines(mask: np.ndarray) -> Iterator[np.ndarray]:
    """A polygon around every piece of ``mask`` (Y, X), halfway between pixels inside and outside; the inverse of :func:`filled`.

    A hole is joined to the contour around it by a channel without width (a keyhole, DICOM PS3.3, C.8.8.6.3), so programs that know
    no holes read it as well.
    """
    from skimage.measure import find_contours  # here, for scikit-image takes a second

    pieces, _ = ndimage.label(mask, TOUCHING)
    for number, (rows, columns) in enumerate(ndimage.find_objects(pieces), start=1):
        piece = np.pad(pieces[rows, columns] == number, 1).astype(float)
        loops = [loop[:-1] for loop in find_contours(piece, 0.5, fully_connected="high")]  # the last point is the first
        outer = max(range(len(loops)), key=lambda i: abs(_area(loops[i])))
        outline = _joined(loops[outer], [loop for i, loop in enumerate(loops) if i != outer])
        yield _without_straight_points(outline)[:, ::-1] + (columns.start - 1, rows.start - 1)


def _without_straight_points(loop: np.ndarray) -> np.ndarray:
    """A closed loop (n, 2) without the points at which it goes straight on."""
    (y0, x0), (y1, x1) = (loop - np.roll(loop, 1, axis=0)).T, (np.roll(loop, -1, axis=0) - loop).T
    straight = (y0 * x1 == x0 * y1) & (y0 * y1 + x0 * x1 > 0)
    return np.asarray(loop[~straight])


def _area(loop: np.ndarray) -> float:
    """Of a closed loop (n, 2), with the sign of its direction."""
    (y, x), (next_y, next_x) = loop.T, np.roll(loop, -1, axis=0).T
    return float((x * next_y - next_x * y).sum() / 2)


def _joined(outer: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """One loop through ``outer`` and all ``holes``: there and back between the closest points, the closest hole first.

    So the way there crosses no other hole, whose centres would lie on the loop.
    """
    found, left = outer, list(holes)
    while left:
        tree = KDTree(found)
        nearest = [tree.query(hole) for hole in left]
        chosen = min(range(len(left)), key=lambda i: nearest[i][0].min())
        hole, (distances, places) = left.pop(chosen), nearest[chosen]
        start = int(distances.argmin())
        at = int(places[start])
        around = np.roll(hole, -start, axis=0)
        found = np.concatenate([found[: at + 1], around, around[:1], found[at:]])
    return found
