"""Sizes of segmented classes, compared with those of the training cases."""

import msgspec
import numpy as np
import pytest
import tifffile

from tests.helpers.fingerprints import case_fingerprint, class_statistics, fingerprint
from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme
from unetrpp.inference.guards import check_input, check_sizes, class_voxels, require_nnunets_spacing, volumes_ml
from unetrpp.inference.notices import Notice
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume, read_file, write_image

LABELS = LabelScheme(names=("background", "organ"), values=(0, 4))
VOLUME = Geometry(shape_zyx=(1, 6, 10), spacing_zyx_mm=(1.0, 1.0, 1.0))
SEGMENTATION = np.repeat(np.array([0, 4], np.uint8), [40, 20]).reshape(1, 6, 10)


def test_a_volume_has_millilitres_and_a_photograph_pixels():
    volume = Geometry(shape_zyx=(1, 6, 10), spacing_zyx_mm=(5.0, 2.0, 1.0))
    photograph = Geometry(shape_zyx=(1, 6, 10), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)
    voxels = class_voxels(SEGMENTATION, LABELS)
    assert voxels == {"organ": 20}
    assert volumes_ml(voxels, volume) == {"organ": 0.2}
    assert volumes_ml(voxels, photograph) == {}


def trained(*volumes_mm3):
    """One training case per volume of the organ."""
    replaced = (msgspec.structs.replace(class_statistics(), volume_mm3=float(v)) for v in volumes_mm3)
    return fingerprint([case_fingerprint(classes={"organ": each}) for each in replaced])


def sizes(voxels, fingerprint, labels=LABELS, geometry=VOLUME):
    return [notice.text for notice in check_sizes({"organ": voxels}, geometry, labels, fingerprint)]


def test_a_class_of_another_size_or_missing_is_warned_about():
    seen = trained(900, 1000, 1000, 1000, 1100)
    assert sizes(1000, seen) == sizes(2200, seen) == sizes(450, seen) == []
    assert sizes(2300, seen) == ["organ has 2.3 ml, training cases had 0.9 to 1.1 ml"]
    assert sizes(440, seen) == ["organ has 0.44 ml, training cases had 0.9 to 1.1 ml"]
    assert sizes(0, seen) == ["organ was not found, every training case had it (0.9 to 1.1 ml)"]


def test_a_class_that_some_training_cases_lack_may_be_small_or_missing():
    seen = trained(0, 900, 1000, 1000, 1000, 1100)
    assert sizes(0, seen) == sizes(1, seen) == []
    assert sizes(2300, seen) == ["organ has 2.3 ml, training cases had 0 to 1.1 ml"]


def test_few_training_cases_with_a_class_say_nothing_about_its_size():
    assert sizes(0, trained(1000, 1000, 1000, 1000)) == []
    assert sizes(10**9, trained(*[0] * 50, 1000, 1000, 1000, 1000)) == []


def test_sizes_are_not_compared_with_sparse_annotations_or_in_photographs():
    sparse = LabelScheme(names=LABELS.names, values=LABELS.values, ignore_value=9)
    photograph = Geometry(shape_zyx=(1, 6, 10), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)
    for voxels in (0, 10, 10**9):
        assert sizes(voxels, trained(*[1000] * 5), labels=sparse) == []
        assert sizes(voxels, trained(*[1000] * 5), geometry=photograph) == []


def test_an_extent_has_its_unit():
    seen = fingerprint([case_fingerprint(shape=(1, 50, 60))])
    photograph = Geometry(shape_zyx=(1, 200, 60), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)
    slab = Geometry(shape_zyx=(1, 200, 60), spacing_zyx_mm=(1.0, 1.0, 1.0))
    noise = np.random.default_rng(0).normal(size=(1, 1, 200, 60))
    for geometry, unit in ((photograph, "pixels"), (slab, "mm")):
        expected = f"extent along y is 200 {unit}, training cases had 50 {unit}"
        assert check_input(Volume(noise, geometry), ("MR",), seen) == [Notice("extent", expected)]


def test_a_huge_label_value_costs_no_memory():
    labels = LabelScheme(names=("background", "code", "rare"), values=(0, 2**33, 2**33 + 1))
    assert class_voxels(labels.decode(np.array([[[0, 1, 1]]])), labels) == {"code": 2, "rare": 0}


def test_a_model_of_nnunet_gets_no_spacing_from_the_metadata_of_a_tiff(tmp_path):
    """Its Tiff3DIO reads CASE.json beside the stack, and else takes 1; here ImageJ says micrometres."""
    path = tmp_path / "a_0000.tif"
    array = np.zeros((5, 8, 9), np.uint8)
    tifffile.imwrite(
        path, array, imagej=True, resolution=(5, 5), metadata={"unit": "um", "spacing": 1.0, "axes": "ZYX"}
    )
    volume = read_file(path)
    assert volume.geometry.spacing_zyx_mm == pytest.approx((1e-3, 2e-4, 2e-4))
    with pytest.raises(
        UserError, match=r"metadata of a_0000.tif gives voxels of .*: write .*\[1, 1, 1\].* beside it"
    ) as refused:
        require_nnunets_spacing([path], volume, "a")
    assert refused.value.case == "a"
    (tmp_path / "a.json").write_text('{"spacing": [1, 1, 1]}')
    require_nnunets_spacing([path], read_file(path), "a")
    nifti = tmp_path / "b.nii.gz"
    write_image(
        nifti, Volume(array[None].astype(np.float32), Geometry(shape_zyx=(5, 8, 9), spacing_zyx_mm=(3.0, 2.0, 1.0)))
    )
    require_nnunets_spacing([nifti], read_file(nifti), "b")
