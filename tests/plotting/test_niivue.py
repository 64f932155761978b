"""The view in 3D: what ipyniivue's widget holds, its files read by SimpleITK. Nothing is drawn, for that needs a browser."""

import sys

import numpy as np
import pytest
import SimpleITK as sitk

from unetrpp.core.errors import UserError
from unetrpp.inference.segmentation import Segmentation
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume, write_image
from unetrpp.plotting.colors import color

pytest.importorskip("ipyniivue")

GEOMETRY = Geometry(
    shape_zyx=(5, 20, 30),
    spacing_zyx_mm=(3.0, 1.0, 0.5),
    origin_xyz_mm=(10.0, -20.0, 7.0),
    direction=(0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0),  # turned by 90 degrees
)
NAMES = {4: "organ", 2: "lesion"}


def labels():
    array = np.zeros(GEOMETRY.shape_zyx, np.uint8)
    array[2, 4:14, 6:20] = 4
    array[2, 8:10, 8:12] = 2
    return array


def image(geometry=GEOMETRY):
    return Volume(np.random.default_rng(0).uniform(0, 900, (1, *geometry.shape_zyx)).astype(np.float32), geometry)


def as_sitk(volume, tmp_path):
    (tmp_path / volume.name).write_bytes(volume.data)
    return sitk.ReadImage(str(tmp_path / volume.name))


def test_image_and_labels_reach_the_view_where_they_lie(tmp_path):
    scan = image()
    view = Segmentation(labels(), GEOMETRY, names=NAMES).show_3d(scan)
    for volume, array in zip(view.volumes, (scan.array[0], labels()), strict=True):
        read = as_sitk(volume, tmp_path)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(read), array)
        np.testing.assert_allclose(read.GetOrigin(), GEOMETRY.origin_xyz_mm, atol=1e-6)
        np.testing.assert_allclose(read.GetSpacing(), GEOMETRY.spacing_zyx_mm[::-1])
        np.testing.assert_allclose(read.GetDirection(), GEOMETRY.direction, atol=1e-6)
    window = (view.volumes[0].cal_min, view.volumes[0].cal_max)
    assert window == pytest.approx(np.percentile(scan.array, (0.5, 99.5)))
    assert view.opts.is_radiological_convention
    assert "application/vnd.jupyter.widget-view+json" in str(view._repr_mimebundle_())


def test_classes_have_the_names_and_colours_of_the_slices():
    array = labels()
    array[0, 0, 0] = 7  # has no name
    (shown,) = Segmentation(array, GEOMETRY, names=NAMES).show_3d().volumes
    table = shown.colormap_label
    assert (table.min, table.max) == (0, 7)
    colours = np.reshape(table.lut, (8, 4))
    for i, (value, name) in enumerate({**NAMES, 7: "label 7"}.items()):
        np.testing.assert_allclose(colours[value, :3] / 255, color(i), atol=0.003)
        assert table.labels[value] == name
    assert colours[:, 3].tolist() == [0, 0, 255, 0, 255, 0, 0, 255]


def test_the_image_may_be_a_file(tmp_path):
    write_image(tmp_path / "scan.nii.gz", image())
    view = Segmentation(labels(), GEOMETRY, names=NAMES).show_3d(tmp_path / "scan.nii.gz")
    read = as_sitk(view.volumes[0], tmp_path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), image().array[0])


def test_what_does_not_fit_is_refused(monkeypatch):
    segmentation = Segmentation(labels(), GEOMETRY, names=NAMES)
    other = Geometry(shape_zyx=(5, 20, 31), spacing_zyx_mm=(3.0, 1.0, 0.5))
    with pytest.raises(UserError, match=r"different grids: shape .* give the segmented image"):
        segmentation.show_3d(image(other))
    photograph = Geometry(shape_zyx=(1, 20, 30), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)
    with pytest.raises(UserError, match=r"single slice has no third dimension; show\(\) draws it"):
        Segmentation(labels()[:1], photograph).show_3d()
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    with pytest.raises(UserError, match=r'needs the package ipyniivue; pip install "unetrpp\[niivue\]"'):
        segmentation.show_3d()
