"""Slices: what is drawn against the arrays, sizes against the spacing, sides of the body against SimpleITK."""

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tests.helpers.figures import require_no_cut_text
from unetrpp.core.errors import UserError
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume, from_sitk
from unetrpp.plotting.colors import color
from unetrpp.plotting.overlays import OPACITY
from unetrpp.plotting.slices import cut_slices, draw_slice, slider

GEOMETRY = Geometry(shape_zyx=(5, 20, 30), spacing_zyx_mm=(3.0, 1.0, 0.5))
NAMES = {4: "organ", 2: "lesion"}


def labels():
    """An organ in slices 1 to 3, largest in 2, where it holds a lesion."""
    array = np.zeros(GEOMETRY.shape_zyx, np.uint8)
    array[1, 5:8, 5:8] = array[3, 5:8, 5:8] = 4
    array[2, 4:14, 6:20] = 4
    array[2, 8:10, 8:12] = 2
    return array


def image(geometry=GEOMETRY):
    return Volume(np.random.default_rng(0).uniform(0, 900, (1, *geometry.shape_zyx)).astype(np.float32), geometry)


def drawn(figure):
    """The axes, and the arrays on them: the image and what is painted."""
    (axes,) = figure.axes
    shown, painted = (np.asarray(picture.get_array()) for picture in axes.images)
    return axes, shown, painted


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_image_and_colours_are_those_of_the_arrays(axis):
    """The image between its 0.5 and 99.5 percentile; every class in its colour, and nothing elsewhere."""
    volume, array = image(), labels()
    _, shown, painted = drawn(draw_slice(cut_slices(array, GEOMETRY, volume, NAMES, axis=axis), 2))
    low, high = np.percentile(volume.array, (0.5, 99.5))
    np.testing.assert_allclose(shown, np.clip((volume.array[0].take(2, axis) - low) / (high - low), 0, 1))
    cut = array.take(2, axis)
    for i, value in enumerate(NAMES):
        assert (painted[cut == value] == (*color(i), OPACITY)).all()
    assert (painted[cut == 0][:, 3] == 0).all()


@pytest.mark.parametrize(("axis", "pixel_mm"), [(0, (1.0, 0.5)), (1, (3.0, 0.5)), (2, (3.0, 1.0))])
def test_lengths_on_the_picture_are_lengths_in_mm(axis, pixel_mm):
    figure = draw_slice(cut_slices(labels(), GEOMETRY, image(), NAMES, axis=axis), 0)
    FigureCanvasAgg(figure).draw()
    axes, shown, _ = drawn(figure)
    box = axes.get_window_extent()
    rows, columns = shown.shape
    expected = rows * pixel_mm[0] / (columns * pixel_mm[1])
    assert box.height / box.width == pytest.approx(expected, rel=0.01)


def test_the_slice_that_shows_most_is_drawn_first():
    figure = draw_slice(cut_slices(labels(), GEOMETRY, None, NAMES))
    axes, shown, _ = drawn(figure)
    assert (figure.index, axes.get_title()) == (2, "slice 2 of 0 to 4")
    assert (shown == 0).all()  # no image: on black
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["organ", "lesion"]
    require_no_cut_text(figure)


def test_values_without_a_name_are_painted():
    figure = draw_slice(cut_slices(labels(), GEOMETRY, None, {}))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["label 2", "label 4"]
    empty = draw_slice(cut_slices(np.zeros_like(labels()), GEOMETRY, None, {}))
    assert empty.legends == []


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LPI", "RPS", "PIR", "SAL", "IPR"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_body_is_seen_as_radiologists_expect(orientation, axis):
    """A mark at the patient's left, back and feet is at the right, or at the bottom, however the file's axes run."""
    canonical = sitk.Image([12, 10, 8], sitk.sitkFloat32)
    canonical.SetOrigin([-6, -5, -4])
    turned = sitk.DICOMOrient(canonical, orientation)
    x, y, z = turned.TransformPhysicalPointToIndex([4.0, 4.0, -3.0])  # LPS mm
    turned[x, y, z] = 1
    volume = from_sitk(turned)
    mark = np.argwhere(volume.array[0])[0]
    figure = draw_slice(cut_slices(volume.array[0].astype(int), volume.geometry, volume, {1: "mark"}, axis=axis))
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    row, column = (int(mark[a]) for a in range(3) if a != axis)
    seen_x, seen_y = axes.transAxes.inverted().transform(axes.transData.transform((column, row)))
    assert seen_x > 0.5
    assert seen_y < 0.5
    letters = {text.get_text(): text.get_position() for text in axes.texts}
    assert all(letters[side][0] > 0.5 or letters[side][1] < 0.5 for side in "LPF" if side in letters)
    assert len(letters) == 4


def test_a_photograph_has_colours_and_no_sides():
    geometry = Geometry(shape_zyx=(1, 6, 8), spacing_zyx_mm=(1, 1, 1), dimensions=2)
    colours = np.zeros((3, 1, 6, 8), np.float32)
    colours[0] = 255
    figure = draw_slice(cut_slices(np.ones((1, 6, 8), int), geometry, Volume(colours, geometry), {1: "cell"}))
    axes, shown, _ = drawn(figure)
    np.testing.assert_array_equal(shown, np.broadcast_to([1, 0, 0], (6, 8, 3)))
    assert list(axes.texts) == []
    assert "image/png" in figure._repr_mimebundle_()


def test_what_does_not_fit_is_refused():
    other = Geometry(shape_zyx=(5, 20, 31), spacing_zyx_mm=(3.0, 1.0, 0.5))
    with pytest.raises(UserError, match=r"different grids: shape .* give the segmented image"):
        cut_slices(labels(), GEOMETRY, image(other), NAMES)
    for index in (-1, 5):
        with pytest.raises(UserError, match=f"no slice {index}; give a number from 0 to 4"):
            draw_slice(cut_slices(labels(), GEOMETRY, None, NAMES), index)


def test_the_slider_draws_the_slice_that_is_chosen():
    pytest.importorskip("ipywidgets")
    slices = cut_slices(labels(), GEOMETRY, image(), NAMES)
    chosen, shown = slider(slices, 2).children
    assert (chosen.value, chosen.min, chosen.max) == (2, 0, 4)
    assert shown.value == draw_slice(slices, 2)._repr_png_()
    chosen.value = 3
    assert shown.value == draw_slice(slices, 3)._repr_png_()


def test_a_notebook_gets_the_slider_and_a_picture_for_those_that_show_none(monkeypatch):
    pytest.importorskip("ipywidgets")
    figure = draw_slice(cut_slices(labels(), GEOMETRY, image(), NAMES))
    widget = "application/vnd.jupyter.widget-view+json"
    assert {widget, "image/png"} <= figure._repr_mimebundle_().keys()
    monkeypatch.setattr("unetrpp.plotting.slices.find_spec", lambda name: None)
    assert figure._repr_mimebundle_().keys() == {"image/png", "text/plain"}
