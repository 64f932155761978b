"""Sizes of segmented classes, compared with those of the training cases."""

import numpy as np

from tests.helpers.fingerprints import case_fingerprint, class_statistics, fingerprint
from unetrpp.dataset.labels import LabelScheme
from unetrpp.inference.guards import check_sizes, class_voxels, volumes_ml
from unetrpp.io.geometry import Geometry

LABELS = LabelScheme(names=("background", "organ"), values=(0, 4))
SEGMENTATION = np.repeat(np.array([0, 4], np.uint8), [40, 20]).reshape(1, 6, 10)


def test_a_volume_has_millilitres_and_a_photograph_pixels():
    volume = Geometry(shape_zyx=(1, 6, 10), spacing_zyx_mm=(5.0, 2.0, 1.0))
    photograph = Geometry(shape_zyx=(1, 6, 10), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)
    voxels = class_voxels(SEGMENTATION, LABELS)
    assert voxels == {"organ": 20}
    assert volumes_ml(voxels, volume) == {"organ": 0.2}
    assert volumes_ml(voxels, photograph) == {}


def test_a_warning_about_a_large_class_has_its_unit():
    trained = fingerprint([case_fingerprint(classes={"organ": class_statistics()})] * 3)
    seen = trained.cases[0].classes["organ"]
    volume = Geometry(shape_zyx=(1, 6, 10), spacing_zyx_mm=(1.0, 1.0, 1.0))
    photograph = Geometry(shape_zyx=(1, 6, 10), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)
    for geometry, unit in ((volume, "ml"), (photograph, "pixels")):
        (warning,) = check_sizes({"organ": 1000 * seen.voxels + 10**9}, geometry, trained)
        assert f" {unit}, training cases had" in warning


def test_a_huge_label_value_costs_no_memory():
    labels = LabelScheme(names=("background", "code", "rare"), values=(0, 2**33, 2**33 + 1))
    assert class_voxels(labels.decode(np.array([[[0, 1, 1]]])), labels) == {"code": 2, "rare": 0}
