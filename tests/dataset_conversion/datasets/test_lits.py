"""LiTS in miniature, with the odd files of such downloads."""

import numpy as np
import pytest

from tests.helpers.downloads import convert, label, scan, train_two_steps
from unetrpp.core.errors import UserError
from unetrpp.io.images import read_image, read_label


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "LiTS \u00fc"
    for i, folder in enumerate(("Training Batch 1", "Training Batch 2", "Training Batch 2")):
        scan(root / folder / f"volume-{i}.nii", ct=True, seed=i)
        label(root / folder / f"segmentation-{i}.nii", [1, 2], seed=i)
    scan(root / "Test/test-volume-0.nii", ct=True, seed=9)
    return root


def test_a_download_goes_to_training(source, tmp_path):
    second = source / "Training Batch 2/volume-1.nii"
    second.rename(second.with_name("Volume-1.NII"))
    (source / "Training Batch 1/._volume-0.nii").write_bytes(b"junk")
    converted = convert("lits", source, tmp_path / "w")
    assert converted.errors == ()
    assert converted.cases == ("volume-0", "volume-1", "volume-2", "test-volume-0")
    assert converted.test_cases == ("test-volume-0",)
    image = read_image(converted.folder / "imagesTr/volume-0_0000.nii").array
    np.testing.assert_array_equal(image, read_image(source / "Training Batch 1/volume-0.nii").array)
    drawn = read_label(converted.folder / "labelsTr/volume-2.nii").array
    np.testing.assert_array_equal(drawn, read_label(source / "Training Batch 2/segmentation-2.nii").array)
    assert train_two_steps(converted, tmp_path / "w").is_file()


def test_what_makes_no_case_is_named_at_once(source, tmp_path):
    scan(source / "Training Batch 2/volume-3.nii", ct=True)
    label(source / "Training Batch 2/segmentation-4.nii", [1])
    scan(source / "Training Batch 2/volume-5.nii", ct=True)
    scan(source / "Training Batch 2/volume-5.nii.gz", ct=True)
    label(source / "Training Batch 2/segmentation-5.nii", [1])
    (source / "Training Batch 1/volume-0.nii").write_bytes(bytes(400))
    label(source / "Training Batch 2/segmentation-2.nii", [1, 3])
    scan(source / "other/liver_0.nii.gz")
    converted = convert("lits", source, tmp_path / "w")
    assert converted.cases == ("volume-1", "test-volume-0")
    errors = {error.case: error.message for error in converted.errors}
    assert sorted(errors) == [
        "other/liver_0.nii.gz", "volume-0", "volume-2", "volume-3", "volume-4", "volume-5",
    ]  # fmt: skip
    assert errors["volume-3"] == "has no label; complete the download, or remove its image"
    assert errors["volume-4"] == "has no image; complete the download, or remove its label"
    assert errors["volume-5"] == "has several files for one (volume-5.nii and volume-5.nii.gz); keep one"
    assert "segmentation-2.nii holds the label 3" in errors["volume-2"]
    assert "is not named volume-N" in errors["other/liver_0.nii.gz"]


def test_scans_without_a_spacing_are_known(source, tmp_path, caplog):
    scan(source / "volume-28.nii", ct=True)
    label(source / "segmentation-28.nii", [1])
    assert "volume-28" in convert("lits", source, tmp_path / "w").cases
    assert "volume-28  its affine is the identity" in caplog.text
    without = convert("lits", source, tmp_path / "w", name="without", skip_known_broken=True)
    assert "volume-28" not in without.cases


def test_a_workspace_in_the_download_is_not_searched(source):
    first = convert("lits", source, source / "unetrpp_workspace")
    again = convert("lits", source, source / "unetrpp_workspace")
    assert again.cases == first.cases
    assert again.errors == ()


def test_a_folder_without_a_case_is_refused_with_the_first_reason(tmp_path):
    scan(tmp_path / "d/volume-1.nii")
    scan(tmp_path / "d/volume-2.nii")
    with pytest.raises(
        UserError, match=r"no case can be converted: volume-1 has no label; .* and volume-2 has no label"
    ):
        convert("lits", tmp_path / "d", tmp_path / "w")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no case of lits; give the folder .* `unetrpp_convert lits --help`"):
        convert("lits", tmp_path / "empty", tmp_path / "w")


def test_files_of_another_format_replace_those_of_an_earlier_run(source, tmp_path):
    folder = convert("lits", source, tmp_path / "w").folder
    assert len(list(folder.glob("*/*.nii"))) == 7
    path = source / "Training Batch 1/volume-0.nii"
    scan(path.with_suffix(".nii.gz"), ct=True)
    path.unlink()
    convert("lits", source, tmp_path / "w")
    assert not list(folder.glob("*/*.nii"))
    assert len(list(folder.glob("*/*.nii.gz"))) == 7
