"""Words that the reasons of decisions share: names of axes, counts, ranges, lengths."""

from collections.abc import Sequence

from unetrpp.core.text import format_mm
from unetrpp.io.formats import is_picture
from unetrpp.io.geometry import Axes

AxisNames = tuple[str, str, str]  # of the canonical axes z, y and x

ANATOMICAL: AxisNames = ("z (head-feet)", "y (front-back)", "x (left-right)")
OF_PICTURES: AxisNames = ("z (slices)", "y (rows)", "x (columns)")


def axis_names(file_ending: str) -> AxisNames:
    """Names of the canonical axes: anatomical ones unless files of this ending hold no orientation.

    >>> axis_names(".nii.gz")[2], axis_names(".png")[2]
    ('x (left-right)', 'x (columns)')
    """
    return OF_PICTURES if is_picture(file_ending) else ANATOMICAL


def span(low: float, high: float) -> str:
    """A range; one number where its ends are printed alike.

    >>> span(27, 27.0000001), span(0.5, 2)
    ('27', '0.5-2')
    """
    first, last = f"{low:.4g}", f"{high:.4g}"
    return first if first == last else f"{first}-{last}"


def lengths(spacing: Sequence[float], unit: str = "mm") -> str:
    """A voxel size in the fingerprint's unit of lengths.

    >>> lengths((3.0, 0.5, 0.5)), lengths((1.0, 1.0), "pixels"), lengths((1.0, 2.0, 2.0), "voxels")
    ('3 x 0.5 x 0.5 mm', 'one pixel', '1 x 2 x 2 voxels')
    """
    if unit != "mm" and set(spacing) == {1.0}:
        return f"one {unit.removesuffix('s')}"
    return f"{format_mm(spacing).removesuffix(' mm')} {unit}"


def amount(value: float) -> str:
    """A number with two digits at least, never as a power of ten.

    >>> amount(0.0412), amount(7.53), amount(3412.7)
    ('0.041', '7.5', '3413')
    """
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def percent(share: float) -> str:
    """
    >>> percent(0.357), percent(0.0004), percent(0)
    ('36%', '0.04%', '0%')
    """
    return f"{share:.0%}" if share >= 0.01 or not share else f"{share * 100:.1g}%"


def order_of(axes: Axes | Sequence[int]) -> str:
    """
    >>> order_of((1, 0, 2))
    'y, z, x'
    """
    return ", ".join("zyx"[axis] for axis in axes)
