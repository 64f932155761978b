"""Whether the axes of an image stand at right angles, and the nearest ones that do: for the readers and for --fix."""

import numpy as np

# Cosine of two axes above which they are sheared; a header's numbers rounded to four digits stay below it.
MOST_COSINE = 3e-4


def has_right_angles(columns: np.ndarray) -> bool:
    """Whether the axes, the columns of a 2 x 2 or 3 x 3 matrix, have a length and stand at right angles."""
    return bool(np.linalg.norm(columns, axis=0).all()) and largest_cosine(columns) <= MOST_COSINE


def largest_cosine(columns: np.ndarray) -> float:
    """Of two axes, the columns of a matrix; 0 where all angles are right ones."""
    cosines = columns / np.linalg.norm(columns, axis=0)
    return float(np.abs(cosines.T @ cosines - np.eye(len(cosines))).max())


def shear_degrees(columns: np.ndarray) -> float:
    """The largest departure of two axes, the columns of a matrix, from a right angle.

    >>> round(shear_degrees(np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 2.0], [0.0, 0.0, 2.0]])), 6)
    45.0
    """
    return float(np.degrees(np.arcsin(min(largest_cosine(columns), 1.0))))


def straightened(columns: np.ndarray, offset: np.ndarray, shape_xyz: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The nearest axes with right angles, of the same lengths and around the same centre, and their offset.

    The orthogonal factor of the polar decomposition is the nearest matrix with right angles (Higham 1986).
    """
    spacing = np.linalg.norm(columns, axis=0)
    u, _, v = np.linalg.svd(columns / spacing)
    axes, center = (u @ v) * spacing, (np.array(shape_xyz) - 1) / 2
    return axes, columns @ center + offset - axes @ center
