"""PROMISE12 in miniature: the same numbers in training, test and live challenge."""

import numpy as np
import SimpleITK as sitk

from tests.helpers.downloads import convert, label, scan, train_two_steps
from unetrpp.io.images import read_image


def test_a_download_goes_to_training(tmp_path):
    root = tmp_path / "promise12"
    for part, numbers in (("TrainingData_Part1", (0, 1)), ("TrainingData_Part2", (2,)), ("TestData", (0,))):
        for i in numbers:
            scan(root / part / f"Case{i:02d}.mhd", seed=i + len(part), spacing=(0.6, 0.6, 3.6))
            label(root / part / f"Case{i:02d}_segmentation.mhd", [1], seed=i, spacing=(0.6, 0.6, 3.6))
    scan(root / "livechallenge_test_data/Case00.mhd", seed=7)
    scan(root / "TrainingData_Part2/Case03.mhd")
    (root / "TrainingData_Part1/._Case00.mhd").write_bytes(b"junk")
    converted = convert("promise12", root, tmp_path / "w")
    assert converted.cases == ("Case00", "Case01", "Case02", "test_Case00", "live_Case00")
    assert converted.test_cases == ("test_Case00", "live_Case00")
    assert [error.case for error in converted.errors] == ["Case03"]
    assert (converted.folder / "labelsTs/test_Case00.nii.gz").is_file()
    assert not (converted.folder / "labelsTs/live_Case00.nii.gz").exists()
    for part, case in (("TrainingData_Part1", "imagesTr/Case00"), ("TestData", "imagesTs/test_Case00")):
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(root / part / "Case00.mhd")))
        np.testing.assert_array_equal(read_image(converted.folder / f"{case}_0000.nii.gz").array[0], array)
    assert train_two_steps(converted, tmp_path / "w").is_file()


def test_a_header_without_its_data_is_refused(tmp_path):
    for i in range(2):
        scan(tmp_path / f"d/Case{i:02d}.mhd", seed=i)
        label(tmp_path / f"d/Case{i:02d}_segmentation.mhd", [1])
    (tmp_path / "d/Case01.raw").unlink()
    converted = convert("promise12", tmp_path / "d", tmp_path / "w")
    assert converted.cases == ("Case00",)
    [error] = converted.errors
    assert error.case == "Case01"
    assert "Case01.raw" in error.message


def test_the_nearest_folder_tells_test_cases(tmp_path):
    for part, numbers in (("latest/training_data", (0, 1)), ("latest/test_data", (0,))):
        for i in numbers:
            scan(tmp_path / part / f"Case{i:02d}.mhd", seed=i)
            label(tmp_path / part / f"Case{i:02d}_segmentation.mhd", [1])
    assert convert("promise12", tmp_path / "latest", tmp_path / "w").cases == ("Case00", "Case01", "test_Case00")
    alone = convert("promise12", tmp_path / "latest/test_data", tmp_path / "w", name="Test")
    assert alone.test_cases == ("test_Case00",)
