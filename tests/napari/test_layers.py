"""Layers of napari against SimpleITK's geometry: where voxels lie, what becomes a channel, and what results look like."""

import numpy as np
import pytest
import SimpleITK as sitk

from unetrpp.core.errors import UserError
from unetrpp.dataset.synthetic import SCHEME, synthetic_case
from unetrpp.inference.segmentation import Segmentation
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import from_sitk, read_image, to_sitk
from unetrpp.napari.files import read, reader, sample, write_labels
from unetrpp.napari.layers import geometry_of, place_of, result_layers, volume_of
from unetrpp.plotting.colors import PALETTE

napari = pytest.importorskip("napari", reason='napari is an extra: pip install "unetrpp[napari]"')
layers = pytest.importorskip("napari.layers")
pytestmark = pytest.mark.filterwarnings("default")  # of napari and what it needs, in versions that a user may have


def oblique() -> sitk.Image:
    """Voxels of three lengths on axes that are turned, swapped and flipped."""
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32))
    turn = sitk.VersorTransform((0.3, -0.5, 0.8), 0.4)
    turned = np.array(turn.GetMatrix()).reshape(3, 3) @ [[0, -1, 0], [0, 0, 1], [1, 0, 0]]
    image.SetDirection(turned.ravel().tolist())
    image.SetSpacing((0.7, 1.1, 3.0))
    image.SetOrigin((-20.0, 31.5, 4.0))
    return image


def assert_same_grid(geometry: Geometry, image: sitk.Image) -> None:
    assert geometry.shape_zyx == image.GetSize()[::-1]
    np.testing.assert_allclose(geometry.spacing_zyx_mm, image.GetSpacing()[::-1])
    np.testing.assert_allclose(geometry.origin_xyz_mm, image.GetOrigin(), atol=1e-9)
    np.testing.assert_allclose(geometry.direction, image.GetDirection(), atol=1e-9)


def test_a_file_opened_by_the_reader_keeps_its_grid(tmp_path):
    image = oblique()
    sitk.WriteImage(image, tmp_path / "case.nrrd")
    opening = reader(str(tmp_path / "case.nrrd"))
    assert opening is not None
    ((array, attributes, kind),) = opening(str(tmp_path / "case.nrrd"))
    assert (attributes["name"], kind) == ("case", "image")
    layer = layers.Image(array, **attributes)
    for index in ((0, 0, 0), (4, 2, 6)):
        world = image.TransformIndexToPhysicalPoint(index[::-1])
        np.testing.assert_allclose(layer.data_to_world(index), world[::-1])
    volume = volume_of([layer], pictures=False)
    assert_same_grid(volume.geometry, image)
    np.testing.assert_array_equal(volume.array, read_image(tmp_path / "case.nrrd").array)
    assert reader(["a.nii", "b.nii"]) is None


def test_labels_are_saved_on_the_grid_of_the_image(tmp_path):
    image = oblique()
    sitk.WriteImage(image, tmp_path / "case.nrrd")
    ((array, attributes, _),) = read(str(tmp_path / "case.nrrd"))
    labels = layers.Labels((array > 0).astype(np.uint8), **place_of(layers.Image(array, **attributes)))
    data, saved, _ = labels.as_layer_data_tuple()
    assert write_labels(str(tmp_path / "out.nrrd"), data, saved) == [str(tmp_path / "out.nrrd")]
    written = sitk.ReadImage(tmp_path / "out.nrrd")
    assert_same_grid(from_sitk(written).geometry, image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), array > 0)


def test_scale_and_translate_are_spacing_and_origin():
    layer = layers.Image(np.zeros((4, 5, 6)), scale=(3.0, 0.5, 0.7), translate=(10.0, 20.0, 30.0))
    geometry = geometry_of(layer, (4, 5, 6))
    assert geometry == Geometry(shape_zyx=(4, 5, 6), spacing_zyx_mm=(3.0, 0.5, 0.7), origin_xyz_mm=(30.0, 20.0, 10.0))


def test_micrometres_become_mm():
    layer = layers.Image(np.zeros((4, 5, 6)), scale=(500, 200, 200), translate=(1000, 0, 0), units=("um",) * 3)
    geometry = geometry_of(layer, (4, 5, 6))
    np.testing.assert_allclose(geometry.spacing_zyx_mm, (0.5, 0.2, 0.2))
    np.testing.assert_allclose(geometry.origin_xyz_mm, (0, 0, 1.0))


def test_each_layer_is_a_channel_and_colours_are_three():
    rng = np.random.default_rng(0)
    channels = [layers.Image(rng.normal(size=(4, 5, 6)), scale=(3, 1, 1), name=name) for name in ("T1", "T2")]
    volume = volume_of(channels, pictures=False)
    np.testing.assert_array_equal(volume.array, np.stack([c.data for c in channels]).astype(np.float32))
    pixels = rng.integers(0, 255, (8, 9, 4)).astype(np.uint8)
    pixels[..., 3] = 255
    colours = layers.Image(pixels, rgb=True, scale=(0.2, 0.2))
    volume = volume_of([colours], pictures=True)
    np.testing.assert_array_equal(volume.array[:, 0], np.moveaxis(pixels[..., :3], -1, 0))
    assert volume.geometry == Geometry(shape_zyx=(1, 8, 9), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)
    assert volume_of([colours], pictures=False).geometry.spacing_zyx_mm == (1.0, 0.2, 0.2)


def test_the_finest_level_of_a_pyramid_is_segmented():
    levels = [np.ones((8, 8)), np.zeros((4, 4))]
    volume = volume_of([layers.Image(levels, multiscale=True)], pictures=True)
    np.testing.assert_array_equal(volume.array, np.ones((1, 1, 8, 8)))


def test_layers_that_are_no_image_of_a_model_are_refused():
    whole = layers.Image(np.zeros((4, 5, 6)), name="CT")
    with pytest.raises(UserError, match="layer 'film' has 4 axes, and an image two or three; split it"):
        volume_of([layers.Image(np.zeros((2, 4, 5, 6)), name="film")], pictures=False)
    with pytest.raises(UserError, match="layer 'CT' is sheared"):
        volume_of([layers.Image(np.zeros((4, 5, 6)), shear=[0.2, 0, 0], name="CT")], pictures=False)
    with pytest.raises(UserError, match="'CT' and 'PET' are on different grids: shape"):
        volume_of([whole, layers.Image(np.zeros((4, 5, 7)), name="PET")], pictures=False)
    with pytest.raises(UserError, match="are on different grids: corners lie 1"):
        volume_of([whole, layers.Image(np.zeros((4, 5, 6)), translate=(1, 0, 0))], pictures=False)
    clear = np.zeros((4, 5, 4), np.uint8)
    with pytest.raises(UserError, match="photo has transparent pixels"):
        volume_of([layers.Image(clear, rgb=True, name="photo")], pictures=True)


def test_results_lie_on_the_image_in_the_colours_of_reports():
    image = layers.Image(np.zeros((4, 5, 6)), scale=(3, 1, 1), rotate=(20, 30, 40), name="CT")
    array = np.zeros((4, 5, 6), np.uint8)
    array[1, 2, 3], array[2, 2, 2] = 5, 1
    geometry = Geometry(shape_zyx=(4, 5, 6), spacing_zyx_mm=(3.0, 1.0, 1.0))
    unsure = np.full(array.shape, 0.5, np.float32)
    found = Segmentation(array, geometry, entropy=unsure, names={1: "liver", 5: "tumour"})
    entropy, labels = (
        getattr(layers, kind.title())(data, **attributes)
        for data, attributes, kind in result_layers(found, "CT", place_of(image))
    )
    assert (labels.name, entropy.name) == ("CT segmentation", "CT uncertainty")
    for layer in (labels, entropy):
        np.testing.assert_allclose(layer.data_to_world((1, 2, 3)), image.data_to_world((1, 2, 3)))
    np.testing.assert_array_equal(labels.data, array)
    for value, shown in ((1, PALETTE[0]), (5, PALETTE[1])):
        rgb = [int(shown[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        np.testing.assert_allclose(labels.get_color(value)[:3], rgb, atol=1e-6)
    assert dict(zip(labels.features["index"], labels.features["name"], strict=True))[5] == "tumour"


def test_results_of_a_photograph_have_two_axes_and_the_status_bar_names_the_class():
    flat = Geometry(shape_zyx=(1, 5, 6), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)
    array = np.zeros((1, 5, 6), np.uint8)
    array[0, 2, 3] = 2
    photo = layers.Image(np.zeros((5, 6, 3), np.uint8), rgb=True, scale=(0.2, 0.2))
    ((data, attributes, _),) = result_layers(Segmentation(array, flat, names={2: "cell"}), "photo", place_of(photo))
    assert layers.Labels(data, **attributes).get_status((2, 3), world=False)["value"] == "2; name: cell"


def test_the_sample_is_the_demos_first_held_out_case():
    (image, attributes, _), (label, of_label, kind) = sample()
    volume, reference = synthetic_case(0, 20)
    np.testing.assert_array_equal(image, volume.array[0])
    np.testing.assert_array_equal(label, reference.array[0])
    assert geometry_of(layers.Image(image, **attributes), image.shape) == volume.geometry
    assert (kind, of_label["visible"]) == ("labels", False)
    assert of_label["features"]["name"] == list(SCHEME.names)
    assert_same_grid(volume.geometry, to_sitk(volume.array[0], volume.geometry))
