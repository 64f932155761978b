"""Overlay pictures: which slices are chosen, and that contours are drawn in the classes' colours."""

import matplotlib.image
import numpy as np
import pytest

from tests.helpers.figures import require_no_cut_text
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume
from unetrpp.plotting.colors import color
from unetrpp.plotting.overlays import brightness, draw_overlay, informative_slices, slicing_axis, write_overlay


def test_slices_show_every_class_and_the_disagreement():
    truth = np.zeros((30, 8, 8), int)
    truth[5, :4, :4] = 1
    truth[20, :2, :2] = 2
    predicted = truth.copy()
    predicted[27, :3, :3] = 1
    assert informative_slices(predicted, truth, [1, 2], 3) == [5, 20, 27]
    assert informative_slices(predicted, None, [1, 2], 2) == [5, 20]


def test_a_slice_is_never_shown_twice_and_none_is_invented():
    empty = np.zeros((3, 4, 4), int)
    assert informative_slices(empty, empty, [1], 4) == [0, 1, 2]


def test_slices_are_cut_along_the_coarse_axis():
    assert slicing_axis((40, 40, 20), (1.0, 1.0, 3.0)) == 2


def test_colors_stay_apart():
    colors = np.array([color(i) for i in range(20)])
    gaps = np.abs(colors[:, None] - colors[None]).sum(-1) + 10 * np.eye(20)
    assert gaps.min() > 0.05


@pytest.mark.parametrize("coarse", [0, 2])
def test_the_picture_has_one_line_color_per_class(tmp_path, coarse):
    label = np.zeros((6, 40, 40), int)
    label[3, 10:30, 10:30] = 4
    label = np.moveaxis(label, 0, coarse)
    spacing = (3.0, 1.0, 1.0) if coarse == 0 else (1.0, 1.0, 3.0)
    geometry = Geometry(shape_zyx=label.shape, spacing_zyx_mm=spacing)
    path = tmp_path / "case.png"
    write_overlay(
        path,
        Volume(np.zeros((1, *label.shape), np.float32), geometry),
        label,
        label,
        names={4: "organ", 7: "other"},
        title="case",
    )
    pixels = matplotlib.image.imread(path)[..., :3]

    def count(i):
        return int((np.abs(pixels - color(i)).max(-1) < 0.02).sum())

    assert count(0) > 200  # four sides of the square and the legend
    assert count(1) == 0  # absent: not in the legend either


@pytest.mark.parametrize("classes", [1, 4, 37, 120])
def test_nothing_is_cut_and_the_slices_keep_their_size(classes):
    """``classes`` are all in the slice; the text and the panels lie inside the figure, and no two texts overlap."""
    label = (np.arange(24 * 30).reshape(1, 24, 30) // 4) % classes + 1
    geometry = Geometry(shape_zyx=label.shape, spacing_zyx_mm=(1, 1, 1), dimensions=2)
    names = {value: f"left vertebra number {value} of a very long name" for value in range(1, classes + 1)}
    title = "a case with a name that is longer than the picture is wide, " * 2
    figure = draw_overlay(Volume(np.ones((1, *label.shape)), geometry), label, label, names=names, title=title)
    require_no_cut_text(figure)
    heights = [axes.get_position().height * figure.get_figheight() for axes in figure.axes if axes.images]
    assert min(heights) > 3  # inches
    (legend,) = figure.legends
    assert len(legend.get_texts()) == classes + (2 if classes <= 8 else 0)  # and prediction and reference


def test_many_classes_are_filled_beside_each_other():
    label = np.arange(1, 21).reshape(1, 4, 5).repeat(8, 1).repeat(8, 2)
    geometry = Geometry(shape_zyx=label.shape, spacing_zyx_mm=(1, 1, 1), dimensions=3)
    names = {value: f"class {value}" for value in range(1, 30)}
    figure = draw_overlay(Volume(np.ones((1, *label.shape)), geometry), label, label, names=names)
    assert [axes.get_title() for axes in figure.axes] == ["prediction", "reference"]
    assert len(figure.legends[0].get_texts()) == 20  # of 29: those that are there


def test_colours_of_a_photograph_are_shown():
    image = np.zeros((3, 1, 6, 8), np.float32)
    image[0], image[2] = 255, 51
    np.testing.assert_allclose(brightness(image)[0, 2, 3], [1, 0, 0.2])
    assert brightness(np.arange(20.0).reshape(1, 1, 4, 5)).shape == (1, 4, 5)


def test_a_photograph_without_reference(tmp_path):
    geometry = Geometry(shape_zyx=(1, 20, 30), spacing_zyx_mm=(1, 1, 1), dimensions=2)
    label = np.zeros((1, 20, 30), int)
    label[0, :10] = 1
    write_overlay(
        tmp_path / "a.png",
        Volume(np.ones((3, 1, 20, 30), np.float32), geometry),
        label,
        None,
        names={1: "x"},
        title="a",
    )
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
