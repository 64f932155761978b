"""Every image of a folder is a case's, or named with its reason and the repair; the command then ends with 1."""

from unicodedata import normalize

import numpy as np
import pytest

from tests.helpers.dicom_files import write_series
from tests.helpers.model import make_model, write_images
from tests.helpers.tiny import LABELS
from unetrpp.cli.predict import main
from unetrpp.core.errors import UserError
from unetrpp.dataset.description import DatasetDescription
from unetrpp.inference.inputs import find_cases
from unetrpp.inference.left_out import left_out


def described(*channels):
    return DatasetDescription(name="x", channel_names=channels, labels=LABELS, file_ending=".nii.gz")


ONE, TWO = described("MR"), described("T1", "T2")


def found(folder, description):
    cases = find_cases([folder], description)
    return cases, left_out(folder, cases, description)


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_numbered_scans_are_no_channels_of_a_model_of_one_channel(tmp_path):
    touch(tmp_path, *(f"scan_{i:04d}.nii.gz" for i in range(4)))
    cases, reasons = found(tmp_path, ONE)
    assert cases == {"scan": (tmp_path / "scan_0000.nii.gz",)}
    assert reasons == {
        f"scan_{i:04d}.nii.gz": f"ends in {i:04d}, but the model's channels end at 0000 (MR); "
        f"rename it to scan_{i:04d}_0000.nii.gz"
        for i in (1, 2, 3)
    }
    for name in reasons:  # the repair works
        (tmp_path / name).rename(tmp_path / name.replace(".nii.gz", "_0000.nii.gz"))
    cases, reasons = found(tmp_path, ONE)
    assert set(cases) == {"scan", "scan_0001", "scan_0002", "scan_0003"}
    assert not reasons


def test_numbered_scans_without_the_first_are_refused_by_name(tmp_path):
    touch(tmp_path, "scan_0001.nii.gz", "scan_0002.nii.gz")
    with pytest.raises(UserError, match=r"but scan_0001.nii.gz and 1 more; rename it to scan_0001_0000.nii.gz"):
        find_cases([tmp_path], ONE)


def test_channels_that_the_model_does_not_have_are_named(tmp_path):
    touch(tmp_path, *(f"{case}_{i:04d}.nii.gz" for case in "ab" for i in range(3)))
    cases, reasons = found(tmp_path, TWO)
    assert set(cases) == {"a", "b"}
    assert reasons.keys() == {"a_0002.nii.gz", "b_0002.nii.gz"}
    assert "the model's channels end at 0001 (T1, T2)" in reasons["a_0002.nii.gz"]


def test_other_names_and_endings_are_named_with_a_repair(tmp_path):
    touch(
        tmp_path, "a_0000.nii.gz", "a.nii.gz", "b.nii.gz", "c_0000.mha", "d_0000.NII.GZ", "notes.txt", ".x_0000.nii.gz"
    )
    (tmp_path / "e.dat").symlink_to("nowhere")
    _, reasons = found(tmp_path, ONE)
    assert reasons.keys() == {"a.nii.gz", "b.nii.gz", "c_0000.mha", "d_0000.NII.GZ", "e.dat"}
    assert "move it to another folder, because the case a has a_0000.nii.gz" in reasons["a.nii.gz"]
    assert "rename it to b_0000.nii.gz" in reasons["b.nii.gz"]
    assert "does not end in .nii.gz" in reasons["c_0000.mha"]


def test_a_folder_of_images_with_another_ending(tmp_path):
    touch(tmp_path, "a_0000.jpg", "b_0000.JPG", "c_0000.tif", "a_0000.png", "d.jpg", "e_0003.jpg")
    cases, reasons = found(tmp_path, ONE)
    assert {case: files[0].name for case, files in cases.items()} == {
        "a": "a_0000.jpg",
        "b": "b_0000.JPG",
        "c": "c_0000.tif",
    }
    assert reasons == {
        "a_0000.png": "is another image of the case of a_0000.jpg; give both one ending, or move one of them",
        "d.jpg": "has no channel number in its name; rename it to d_0000.jpg",
        "e_0003.jpg": "ends in 0003, but the model's channels end at 0000 (MR); rename it to e_0003_0000.jpg",
    }
    touch(tmp_path, "f_0000.nii.gz")  # what the model was trained on comes first
    cases, reasons = found(tmp_path, ONE)
    assert cases.keys() == {"f"}
    assert reasons["b_0000.JPG"].startswith("does not end in .nii.gz as the model's images do")


def test_channels_with_different_endings_are_named(tmp_path):
    touch(tmp_path, "a_0000.jpg", "a_0001.png", "b_0000.png", "b_0001.png")
    cases, reasons = found(tmp_path, TWO)
    assert {case: [file.name for file in files] for case, files in cases.items()} == {
        "a": ["a_0000.jpg"],  # which might hold both channels
        "b": ["b_0000.png", "b_0001.png"],
    }
    assert reasons == {
        "a_0001.png": "is another image of the case of a_0000.jpg; give both one ending, or move one of them"
    }


def test_series_come_before_images_with_another_ending(tmp_path):
    write_series(tmp_path / "series", np.zeros((3, 4, 4), np.uint16))
    touch(tmp_path, "preview_0000.png")
    cases, reasons = found(tmp_path, ONE)
    assert cases.keys() == {"series"}
    assert reasons.keys() == {"preview_0000.png"}


def test_the_repair_of_a_folder_without_numbers_has_their_ending(tmp_path):
    touch(tmp_path, "photo.JPG")
    with pytest.raises(UserError, match=r"but photo.JPG; rename it to photo_0000.JPG"):
        find_cases([tmp_path], ONE)


def test_a_picture_may_hold_all_channels(tmp_path):
    touch(tmp_path, "photo.jpg")
    with pytest.raises(
        UserError, match=r"rename it to photo_0000.jpg if it holds all channels, or else the files of a case to"
    ):
        find_cases([tmp_path], TWO)


def test_folders_next_to_images_are_named_if_they_hold_images(tmp_path):
    touch(tmp_path, "a_0000.nii.gz")
    touch(tmp_path / "notes", "x.txt")
    touch(tmp_path / "more", "b_0000.nii.gz")
    write_series(tmp_path / "series", np.zeros((3, 4, 4), np.uint16))
    touch(tmp_path / "results", "predictions.json", "a.nii.gz")
    (tmp_path / "predictions.json").write_text('{"of": "another program"}')
    _, reasons = found(tmp_path, ONE)
    assert reasons.keys() == {"more", "series"}


def test_a_workspace_next_to_the_images_does_not_count(tmp_path):
    touch(tmp_path, "a_0000.nii.gz")
    (tmp_path / "work" / "raw").mkdir(parents=True)
    touch(tmp_path / "work" / "raw" / "x", "b_0000.nii.gz")
    cases = find_cases([tmp_path], ONE)
    assert left_out(tmp_path, cases, ONE).keys() == {"work"}
    assert left_out(tmp_path, cases, ONE, [tmp_path / "work", tmp_path.parent]) == {}
    assert left_out(tmp_path, cases, ONE, [tmp_path / "work" / "results" / "model"]) == {}


def test_the_second_file_of_an_image_is_no_image_left_out(tmp_path):
    pairs = DatasetDescription(name="x", channel_names=("MR",), labels=LABELS, file_ending=".mhd")
    header = "ObjectType = Image\nNDims = 2\nDimSize = 2 2\nElementType = MET_UCHAR\nElementDataFile = a.png\n"
    (tmp_path / "a_0000.mhd").write_text(header)
    touch(tmp_path, "a.png", "b.png")
    assert found(tmp_path, pairs)[1].keys() == {"b.png"}


def test_names_that_differ_in_unicode_form_only(tmp_path):
    composed, decomposed = (normalize(form, "Müller") for form in ("NFC", "NFD"))
    touch(tmp_path, f"{composed}_0000.nii.gz", f"{decomposed}_0001.nii.gz")
    cases, reasons = found(tmp_path, TWO)
    assert [path.name for path in cases[composed]] == [f"{composed}_0000.nii.gz", f"{decomposed}_0001.nii.gz"]
    assert not reasons
    touch(tmp_path, f"{decomposed}_0000.nii.gz")
    cases, reasons = found(tmp_path, TWO)
    assert len(cases) == 1
    ((_, reason),) = reasons.items()
    assert (
        reason
        == "has the same name as another file here except for the Unicode form of the letters; rename one of them"
    )


def test_the_command_names_what_it_left_out_and_ends_with_1(tmp_path, capsys):
    model, images, out = make_model(tmp_path), tmp_path / "images", tmp_path / "out"
    write_images(images, 2)
    (images / "case_1_0000.nii.gz").rename(images / "case_0_0001.nii.gz")
    arguments = ["-i", images, "-o", out, "-m", model, "--folds", "0", "--no-mirroring", "--device", "cpu"]
    assert main([str(argument) for argument in arguments]) == 1
    printed = capsys.readouterr()
    assert "1 of 2 cases is segmented" in printed.out
    assert "case_0_0001.nii.gz  ends in 0001, but the model's channels end at 0000 (MRI)" in printed.err
    # Results next to the images are not taken for images that were left out.
    (images / "case_0_0001.nii.gz").rename(images / "case_1_0000.nii.gz")
    arguments[3] = images
    for _ in range(2):
        assert main([str(argument) for argument in arguments]) == 0
