"""What --fix repairs, and what it leaves alone."""

import numpy as np
import pytest

from tests.helpers.nifti import shear
from tests.helpers.raw_dataset import GEOMETRY, make_case, write_case, write_dataset
from unetrpp.dataset.cases import Case
from unetrpp.io.geometry import Geometry, same_grid
from unetrpp.io.images import Volume, read_geometry, read_label, write_image, write_segmentation
from unetrpp.planners.plan_and_preprocess import main
from unetrpp.planners.repair import repair_case, repair_label

PLAIN = Geometry(shape_zyx=GEOMETRY.shape_zyx, spacing_zyx_mm=(1.0, 1.0, 1.0))


@pytest.fixture
def case(tmp_path):
    write_case(tmp_path, "a", *make_case(0))
    return Case("a", (tmp_path / "imagesTr" / "a_0000.nii.gz",), tmp_path / "labelsTr" / "a.nii.gz")


def test_a_sound_label_is_left_alone(case, tmp_path):
    assert repair_label(case, tmp_path / "fixed") is None
    assert not (tmp_path / "fixed").exists()


def test_a_label_without_header_gets_the_images(case, tmp_path):
    _, label = make_case(0)
    write_segmentation(case.label, label, PLAIN)
    done = repair_label(case, tmp_path / "fixed")
    assert done is not None
    repaired = read_label(done[0])
    np.testing.assert_array_equal(repaired.array[0], label)
    assert same_grid(repaired.geometry, GEOMETRY, 1e-3) == []
    assert same_grid(read_label(case.label).geometry, PLAIN, 1e-3) == []  # the user's own file is untouched


def test_a_label_on_a_finer_grid_is_resampled(case, tmp_path):
    _, label = make_case(0)
    fine = Geometry(shape_zyx=(24, 20, 16), spacing_zyx_mm=(1.0, 1.0, 1.0), origin_xyz_mm=(5.0, -3.0, 9.5))
    write_segmentation(case.label, label.repeat(2, axis=0), fine)
    done = repair_label(case, tmp_path / "fixed")
    assert done is not None
    np.testing.assert_array_equal(read_label(done[0]).array[0], label)


def test_files_of_the_same_name_in_different_folders_are_repaired_apart(tmp_path):
    """As patient_0/seg.nii.gz and patient_1/seg.nii.gz may be called, where dataset.json gives the paths."""
    labels = [np.full(GEOMETRY.shape_zyx, value, np.uint8) for value in (1, 2)]
    cases = []
    for i, label in enumerate(labels):
        image, seg = (tmp_path / f"patient_{i}" / name for name in ("t1.nii.gz", "seg.nii.gz"))
        write_image(image, Volume(label[None].astype(np.float32), GEOMETRY))
        write_segmentation(seg, label, PLAIN)
        cases.append(Case(f"p{i}", (image,), seg))
    repaired = [repair_case(case, tmp_path / "fixed")[0] for case in cases]
    for case, label in zip(repaired, labels, strict=True):
        assert case.label is not None
        np.testing.assert_array_equal(read_label(case.label).array[0], label)


def test_an_ambiguous_label_and_one_that_would_lose_volume_are_left_alone(case, tmp_path):
    _, label = make_case(0)
    cut = Geometry(shape_zyx=(11, 20, 16), spacing_zyx_mm=(1.0, 1.0, 1.0))
    write_segmentation(case.label, label[1:], cut)  # no header and another shape
    assert repair_label(case, tmp_path / "fixed") is None
    far = Geometry(shape_zyx=GEOMETRY.shape_zyx, spacing_zyx_mm=(2.0, 1.0, 1.0), origin_xyz_mm=(500.0, 0.0, 0.0))
    write_segmentation(case.label, label, far)  # elsewhere: nothing of it would be left
    assert repair_label(case, tmp_path / "fixed") is None


def test_the_command_refuses_without_fix_and_goes_on_with_it(tmp_path):
    raw = write_dataset(tmp_path / "raw" / "Blocks")
    write_segmentation(raw / "labelsTr" / "case_2.nii.gz", make_case(2)[1], PLAIN)
    line = ["Blocks", "--workspace", str(tmp_path), "--planner", "unet", "--processes", "1"]
    assert main(line) == 2
    assert main([*line, "--fix"]) == 0


def test_slightly_sheared_axes_are_repaired(case, tmp_path):
    for path in (case.images[0], case.label):
        shear(path, 0.005)
    repaired, done = repair_case(case, tmp_path / "fixed")
    assert len(done) == 2
    assert "set at right angles" in done[0]
    assert repaired.label is not None
    assert same_grid(read_geometry(repaired.images[0]), read_label(repaired.label).geometry, 1e-4) == []
    assert repaired.images[0].parent != case.images[0].parent
