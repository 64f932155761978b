"""Colours of classes: distances in CIE L*a*b* against the published formula, and when they repeat."""

import numpy as np
from matplotlib.colors import to_rgb

from unetrpp.plotting.colors import PALETTE, color, line_style, shade


def lab(rgb):
    """sRGB (N, 3) -> CIE 1976 L*a*b* under D65 (IEC 61966-2-1, CIE 15)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(linear @ to_xyz.T / [0.9505, 1.0, 1.089]).T  # all are above the linear part of the formula
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def test_forty_classes_have_colours_that_people_tell_apart():
    colors = lab(np.array([to_rgb(name) for name in PALETTE]))
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=-1) + 1000 * np.eye(len(colors))
    assert len(colors) == 40
    assert distances.min() > 20  # a difference of 2 is just noticeable
    assert distances[:8, :8].min() > 30
    greys = lab(np.linspace(0, 1, 50)[:, None].repeat(3, 1)[1:])
    assert np.linalg.norm(colors[:, None] - greys[None], axis=-1).min() > 20  # of an image


def test_a_hundred_and_twenty_classes_differ_in_colour_or_line():
    assert len({(color(i), line_style(i)) for i in range(120)}) == 120


def test_shades_go_from_low_to_high_and_undefined_is_grey():
    blue_minus_red = [(c := to_rgb(shade(value, 0, 1)))[2] - c[0] for value in np.linspace(0, 1, 9)]
    assert np.diff(blue_minus_red).min() > 0
    assert shade(0.2, 1, 0) == shade(0.8, 0, 1)  # lower is better
    assert len(set(to_rgb(shade(None, 0, 1)))) < 3
    darkest = min(sum(to_rgb(shade(value, 0, 1))) for value in np.linspace(0, 1, 9))
    assert darkest > 1.9  # black text stays readable
