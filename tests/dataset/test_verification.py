"""Problems of single cases, of copies and of unused files."""

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.dicom_files import write_series
from tests.helpers.nifti import change, sform_of
from tests.helpers.raw_dataset import GEOMETRY, make_case, write_case
from unetrpp.dataset.cases import Case, RawDataset
from unetrpp.dataset.description import CaseFiles, DatasetDescription
from unetrpp.dataset.labels import LabelScheme
from unetrpp.dataset.verification import Problem, duplicates, inputs_digest, inspect, problem_table, strays
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume, write_image, write_segmentation

SCHEME = LabelScheme(names=("background", "organ", "lesion"), values=(0, 1, 2))
DESCRIPTION = DatasetDescription(name="Made", channel_names=("MR",), labels=SCHEME, file_ending=".nii.gz")


@pytest.fixture
def case(tmp_path):
    write_case(tmp_path, "a", *make_case(0))
    return Case("a", (tmp_path / "imagesTr" / "a_0000.nii.gz",), tmp_path / "labelsTr" / "a.nii.gz")


def problems(case, description=DESCRIPTION):
    return [(p.message, p.fatal) for p in inspect(case, description).problems]


def test_a_sound_case(case):
    found = inspect(case, DESCRIPTION)
    assert found.problems == ()
    assert found.image is not None
    assert found.label is not None
    assert found.image.array.dtype == np.float32
    np.testing.assert_array_equal(found.label.array[0], make_case(0)[1])


def moved(by):
    return Geometry(
        shape_zyx=GEOMETRY.shape_zyx, spacing_zyx_mm=GEOMETRY.spacing_zyx_mm, origin_xyz_mm=(5.0 + by, -3.0, 10.0)
    )


@pytest.mark.parametrize(
    ("by", "words", "fatal"), [(0.1, "differ slightly", False), (0.6, "must be on the same grid", True)]
)
def test_small_differences_of_grids_are_warnings_and_large_ones_errors(case, by, words, fatal):
    write_segmentation(case.label, make_case(0)[1], moved(by))
    ((message, found),) = problems(case)
    assert words in message
    assert found == fatal


def test_rounding_of_a_header_is_ignored(case):
    write_segmentation(case.label, make_case(0)[1], moved(1e-5))
    assert problems(case) == []


def test_all_problems_of_a_case_are_found(case):
    write_image(case.images[0], Volume(np.full((1, *GEOMETRY.shape_zyx), 7, np.float32), GEOMETRY))
    write_segmentation(case.label, np.full(GEOMETRY.shape_zyx, 300, np.uint16), GEOMETRY)
    messages = problems(case)
    assert ("channel 'MR' is constant (7); check the export", False) in messages
    assert ('label 300 is not in dataset.json (0, 1, 2); add to "labels" or remap the file', True) in messages


def test_channels_must_be_as_many_as_named(case):
    two = DatasetDescription(name="Made", channel_names=("T1", "T2"), labels=SCHEME, file_ending=".nii.gz")
    ((message, fatal),) = problems(case, two)
    assert "the image has 1 channel, dataset.json names 2 (T1, T2)" in message
    assert fatal


def test_an_empty_label_is_a_warning(case):
    write_segmentation(case.label, np.zeros(GEOMETRY.shape_zyx, np.uint8), GEOMETRY)
    ((message, fatal),) = problems(case)
    assert "no foreground" in message
    assert not fatal


def test_copies_are_a_warning_and_an_error_across_groups():
    images = {"a": "1", "b": "1", "c": "2"}
    (within,) = duplicates(images, None)
    assert (within.message, within.fatal) == ("a, b have the same image; remove the copies", False)
    assert not duplicates(images, {"a": "p", "b": "p", "c": "q"})[0].fatal
    assert duplicates(images, {"a": "p", "b": "q", "c": "q"})[0].fatal


def test_the_digest_depends_on_the_bytes(case):
    before = inputs_digest(case)
    assert inputs_digest(case) == before
    write_segmentation(case.label, np.zeros(GEOMETRY.shape_zyx, np.uint8), GEOMETRY)
    assert inputs_digest(case) != before


def test_the_digest_depends_on_all_files_of_an_image(tmp_path):
    volume = sitk.GetImageFromArray(np.zeros((3, 4, 5), np.uint8))
    sitk.WriteImage(volume, f"{tmp_path / 'meta.mhd'}")  # the voxels are in meta.raw
    sitk.WriteImage(volume, f"{tmp_path / 'stack_0000.tif'}")
    meta, stack = (Case(id=name, images=(tmp_path / name,), label=None) for name in ("meta.mhd", "stack_0000.tif"))
    before = inputs_digest(meta), inputs_digest(stack)
    (tmp_path / "meta.raw").write_bytes(bytes(59) + b"\1")
    (tmp_path / "stack.json").write_text('{"spacing": [5, 1, 1]}')
    assert not {inputs_digest(meta), inputs_digest(stack)} & set(before)


def test_errors_come_first():
    table = problem_table([Problem(case="a", message="odd", fatal=False), Problem(case="b", message="bad")])
    assert [line.split()[0] for line in table.splitlines()] == ["kind", "error", "warning"]


def test_images_that_belong_to_no_case_are_errors_and_warnings_where_files_are_listed(tmp_path, case):
    (tmp_path / "imagesTr" / "b_0000.NII.GZ").touch()
    (problem,) = strays(RawDataset(tmp_path, DESCRIPTION, (case,)))
    assert problem.fatal
    assert problem.case == "imagesTr/b_0000.NII.GZ"
    assert problem.message.startswith("does not end in .nii.gz as the dataset's images do; rename it to b_0000.nii.gz")
    listed = msgspec.structs.replace(DESCRIPTION, files={"a": CaseFiles(images=("x",), label="y")})
    (problem,) = strays(RawDataset(tmp_path, listed, (case,)))
    assert not problem.fatal


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("voxels", "fatal"), [(0.005, None), (0.1, False), (0.5, True), (9.0, True)])
def test_grids_are_judged_in_shares_of_a_voxel_at_any_scale(case, scale, voxels, fatal):
    image, label = make_case(0)
    spacing = tuple(scale * s for s in GEOMETRY.spacing_zyx_mm)
    grid = Geometry(shape_zyx=GEOMETRY.shape_zyx, spacing_zyx_mm=spacing)
    write_image(case.images[0], Volume(image[None], grid))
    shift = voxels * min(spacing)
    write_segmentation(case.label, label, msgspec.structs.replace(grid, origin_xyz_mm=(shift, 0.0, 0.0)))
    assert [found for _, found in problems(case)] == ([] if fatal is None else [fatal])


def test_transforms_that_differ_are_a_warning_and_another_scale_an_error(case):
    sform = sform_of(case.images[0])
    sform[0, 3] += 10
    change(case.images[0], sform, (1, 2))
    messages = problems(case)
    assert ("sform and qform of a_0000.nii.gz lie 10 mm apart; the sform is used", False) in messages
    change(case.images[0], 2 * sform, (1, 2))
    ((message, fatal),) = problems(case)
    assert message.startswith("the sform of a_0000.nii.gz gives voxels of 2 x 2 x 4 mm, its pixdim 1 x 1 x 2 mm")
    assert fatal


def test_a_file_name_with_a_backslash_is_named():
    (problem,) = inspect(Case("images\\a", (Path("images\\a_0000.nii.gz"),), None), DESCRIPTION).problems
    assert problem.message == "the file name holds a backslash, which divides folders on Windows; rename the files"


def test_a_fill_value_is_an_error(case):
    image = make_case(0)[0].astype(np.float32)
    image[3, 4, 5] = -3.4028235e38
    write_image(case.images[0], Volume(image[None], GEOMETRY))
    ((message, fatal),) = problems(case)
    assert message.startswith("channel 'MR' holds -3.40282e+38, too large for a standard deviation")
    assert fatal


def test_a_file_name_that_is_not_utf_8_is_named(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller_0000.nii.gz"))
    write_image(path, Volume(make_case(0)[0][None], GEOMETRY))
    case = Case(os.fsdecode(b"M\xfcller"), (path,), None)
    (problem,) = inspect(case, DESCRIPTION).problems
    assert (problem.case, problem.message) == ("M\\xfcller", "the file name is not UTF-8; rename the files")
    assert inputs_digest(case)


def test_an_image_beside_the_slices_of_a_listed_series_is_an_error(tmp_path):
    write_series(tmp_path / "dicom" / "a", np.zeros((2, 4, 4), np.uint16))
    for name in ("preview.png", "report.txt"):
        (tmp_path / "dicom" / "a" / name).touch()
    listed = msgspec.structs.replace(DESCRIPTION, files={"a": CaseFiles(images=("dicom/a",), label="a.nii.gz")})
    case = Case("a", (tmp_path / "dicom" / "a",), tmp_path / "a.nii.gz")
    (problem,) = strays(RawDataset(tmp_path, listed, (case,)))
    assert problem == Problem(case="a", message="preview.png is not a slice of the series a; move it elsewhere")


def test_two_hundred_constant_channels_are_one_line():
    constant = [Problem(case=f"im{i:03}", message="channel 'A' is constant (255)", fatal=False) for i in range(200)]
    assert problem_table(constant).splitlines()[1:] == [
        "warning  im000, im001, im002, im003, im004 and 195 more  channel 'A' is constant (255)"
    ]
