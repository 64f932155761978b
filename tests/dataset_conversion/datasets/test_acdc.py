"""ACDC in miniature: frames by Info.cfg, sforms without spacing, patients as groups, and the benchmark's division."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.downloads import convert, label, scan, train_two_steps
from tests.helpers.nifti import change
from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset_conversion.datasets import acdc
from unetrpp.evaluation.protocol import read_protocol
from unetrpp.io.images import read_geometry, read_image

SPACING = (1.5, 1.5, 5.0)  # x, y, z
TURNED = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0]])  # as nnU-Net's issue 2741 quotes an sform
RIGHT, MYOCARDIUM, LEFT = 1, 2, 3


def patient(folder, frames=(1, 12), *, labelled=True, cfg=True, spacing=SPACING):
    """A patient's folder as it is in the download."""
    name = folder.name
    for frame in frames:
        scan(folder / f"{name}_frame{frame:02d}.nii.gz", seed=100 * int(name[-3:]) + frame, spacing=spacing)
        if labelled:
            label(folder / f"{name}_frame{frame:02d}_gt.nii.gz", [RIGHT, MYOCARDIUM, LEFT], seed=frame, spacing=spacing)
    scan(folder / f"{name}_4d.nii.gz", channels=2, spacing=spacing)
    if cfg:
        (folder / "Info.cfg").write_text(
            f"ED: {frames[0]}\nES: {frames[-1]}\nGroup: DCM\nHeight: 184.0\nNbFrame: 30\nWeight: 95.0\n"
        )
    return folder


def without_spacing(*files, qform_code=1):
    """Sforms as in the download: turned by 180 degrees, with voxels of 1 mm, beside a qform with the spacing."""
    for file in files:
        change(file, TURNED, (qform_code, 1))


def test_a_download_goes_to_training(tmp_path):
    root = tmp_path / "ACDC é/database"
    for name in ("patient001", "patient002", "patient003"):
        patient(root / "training" / name)
    patient(root / "testing/patient101", (1, 14))
    patient(root / "testing/patient102", (1, 9), labelled=False)
    (root / "training/patient001/._patient001_frame01.nii.gz").write_bytes(b"\0")
    converted = convert("acdc", tmp_path / "ACDC é", tmp_path / "w")
    assert converted.errors == ()
    assert converted.test_cases == tuple(
        f"patient{n}_frame{f}" for n, f in ((101, "01"), (101, 14), (102, "01"), (102, "09"))
    )
    assert sorted(path.name for path in (converted.folder / "labelsTs").iterdir()) == [
        "patient101_frame01.nii.gz",
        "patient101_frame14.nii.gz",
    ]
    dataset = read_dataset(converted.folder, "ACDC")
    assert dataset.description.groups == {
        f"patient00{n}_frame{frame}": f"patient00{n}" for n in (1, 2, 3) for frame in ("01", "12")
    }
    assert dataset.description.labels.names == ("background", "right ventricle", "myocardium", "left ventricle")
    assert train_two_steps(converted, tmp_path / "w").is_file()


@pytest.mark.parametrize("qform_code", [0, 1])
def test_an_sform_without_spacing_gives_way_to_the_qform(tmp_path, caplog, qform_code):
    caplog.set_level("INFO")
    folder = patient(tmp_path / "training/patient001")
    image, mask = folder / "patient001_frame01.nii.gz", folder / "patient001_frame01_gt.nii.gz"
    before = nib.Nifti1Image.from_filename(image)
    voxels, qform = np.asarray(before.dataobj), before.get_qform()
    without_spacing(image, mask, qform_code=qform_code)
    assert np.linalg.norm(nib.Nifti1Image.from_filename(image).affine[:3, :3], axis=0) == pytest.approx(
        [1, 1, 1]
    )  # what programs measure
    with pytest.raises(UserError, match="the sform of"):
        read_geometry(image)
    converted = convert("acdc", tmp_path, tmp_path / "w")
    assert converted.errors == ()
    assert "the sform of 1 case has no spacing" in caplog.text
    for path in (
        converted.folder / "imagesTr/patient001_frame01_0000.nii.gz",
        converted.folder / "labelsTr/patient001_frame01.nii.gz",
    ):
        written = nib.Nifti1Image.from_filename(path)
        assert written.get_qform(coded=True)[1] == written.get_sform(coded=True)[1] == 1
        np.testing.assert_allclose(written.get_qform(), written.get_sform(), atol=1e-5)
        np.testing.assert_allclose(written.affine, qform, atol=1e-5)
        assert sitk.ReadImage(str(path)).GetSpacing() == pytest.approx(SPACING)
    image_written = nib.Nifti1Image.from_filename(converted.folder / "imagesTr/patient001_frame01_0000.nii.gz")
    np.testing.assert_array_equal(np.asarray(image_written.dataobj), voxels)
    assert image_written.get_data_dtype() == before.get_data_dtype()
    # The other frame's header is sound: its file is copied as it is.
    other = "patient001_frame12"
    assert (converted.folder / f"imagesTr/{other}_0000.nii.gz").read_bytes() == (
        folder / f"{other}.nii.gz"
    ).read_bytes()


def test_links_are_refused_only_where_the_header_is_repaired(tmp_path):
    folder = patient(tmp_path / "training/patient001")
    without_spacing(folder / "patient001_frame12.nii.gz", folder / "patient001_frame12_gt.nii.gz")
    converted = convert("acdc", tmp_path, tmp_path / "w", link=True)
    assert converted.cases == ("patient001_frame01",)
    assert (converted.folder / "imagesTr/patient001_frame01_0000.nii.gz").is_symlink()
    [error] = converted.errors
    assert error.case == "patient001_frame12"
    assert "cannot be a link, because the raw dataset needs it changed" in error.message


@pytest.mark.parametrize("sform", [2 * TURNED, np.abs(TURNED)], ids=["other lengths", "other directions"])
def test_another_fault_of_a_header_is_not_repaired_in_silence(tmp_path, sform):
    folder = patient(tmp_path / "training/patient001")
    change(folder / "patient001_frame01.nii.gz", sform, (1, 1))
    converted = convert("acdc", tmp_path, tmp_path / "w")
    assert [error.case for error in converted.errors] == ["patient001_frame01"]
    assert "correct pixdim" in converted.errors[0].message


def test_float_labels_become_whole_numbers_and_others_are_refused(tmp_path):
    folder = patient(tmp_path / "training/patient001")
    for frame, wrong in (("01", 0.0), ("12", 0.4)):
        path = folder / f"patient001_frame{frame}_gt.nii.gz"
        original = nib.Nifti1Image.from_filename(path)
        nib.save(nib.Nifti1Image(np.asarray(original.dataobj).astype(np.float32) + wrong, original.affine), path)
        without_spacing(path, folder / f"patient001_frame{frame}.nii.gz")
    converted = convert("acdc", tmp_path, tmp_path / "w")
    assert converted.cases == ("patient001_frame01",)
    assert "holds values that are not whole numbers" in converted.errors[0].message
    written = nib.Nifti1Image.from_filename(converted.folder / "labelsTr/patient001_frame01.nii.gz")
    assert sorted(np.unique(np.asarray(written.dataobj))) == [0, RIGHT, MYOCARDIUM, LEFT]


def test_what_is_odd_in_a_download_is_named_and_the_rest_converted(tmp_path):
    training = tmp_path / "training"
    for number in range(1, 7):
        patient(training / f"patient00{number}")
    scan(training / "patient001/patient001_frame05.nii.gz")
    scan(training / "patient001/screenshot.nii.gz")
    (training / "patient001/patient001_frame12.nii.gz").write_bytes(b"no image")
    (training / "patient002/patient002_frame12_gt.nii.gz").unlink()
    (training / "patient003/patient003_frame12.nii.gz").unlink()
    (training / "patient003/patient003_frame12_gt.nii.gz").unlink()
    scan(training / "patient004/patient004_frame12.nii")
    patient(tmp_path / "copy/patient005")
    (training / "patient006/Info.cfg").unlink()
    (training / "patient006/patient006_frame01.nii.gz").rename(training / "patient006/patient006_frame01.NII.GZ")
    converted = convert("acdc", tmp_path, tmp_path / "w")
    expected = [f"patient00{number}_frame01" for number in (1, 2, 3, 4, 6)]
    assert converted.cases == (*expected, "patient006_frame12")
    errors = {error.case: error.message for error in converted.errors}
    for name, message in {
        "patient001_frame12": "is not",
        "training/patient001/patient001_frame05.nii.gz": "is none of the frames of Info.cfg (ED 01, ES 12)",
        "training/patient001/screenshot.nii.gz": "is neither a frame of a patient nor its label",
        "patient002_frame12": "has no label",
        "patient003_frame12": "is the frame of ES by Info.cfg, but there is no such file",
        "training/patient004/patient004_frame12.nii": "keep one",
        "training/patient005/patient005_frame01_gt.nii.gz": "keep one",
        "copy/patient005/patient005_frame12.nii.gz": "keep one",
    }.items():
        assert message in errors.pop(name)
    assert all("004_frame12.nii.gz" in name or "005_frame" in name or name == "patient004_frame12" for name in errors)


def test_flat_folders_of_patients_are_training_cases(tmp_path):
    patient(tmp_path / "patient001", (1, 12))
    found = acdc.read(tmp_path)
    assert [(case.id, case.test) for case in found.cases] == [
        ("patient001_frame01", False),
        ("patient001_frame12", False),
    ]
    with pytest.raises(UserError, match=r"has no file such as patient001/patient001_frame01\.nii\.gz"):
        acdc.read(tmp_path / "empty")


def test_the_benchmark_has_80_and_20_patients_whole(tmp_path):
    protocol = read_protocol("acdc")
    listed = (*protocol.train, *protocol.test)
    frames: dict[str, list[int]] = {}
    for case in listed:
        frames.setdefault(case[:10], []).append(int(case[-2:]))
    tiny = scan(tmp_path / "tiny.nii.gz", shape=(2, 3, 4))
    for name, numbers in frames.items():
        folder = tmp_path / "training" / name
        folder.mkdir(parents=True)
        for number in numbers:
            for ending in ("", "_gt"):
                (folder / f"{name}_frame{number:02d}{ending}.nii.gz").symlink_to(tiny)
    (tmp_path / "testing/patient101").mkdir(parents=True)
    (tmp_path / "testing/patient101/patient101_frame01_gt.nii.gz").symlink_to(tiny)
    assert acdc.read(tmp_path).left_out.keys() == {"patient101_frame01"}
    found = acdc.read(tmp_path, protocol="acdc")
    assert (found.left_out, found.unused) == ({}, {})
    assert found.notes[1] == "1 case is in none of its lists and not converted"
    tests = [case.id for case in found.cases if case.test]
    assert (len(found.cases), len(tests)) == (200, 40)
    assert not {case[:10] for case in tests} & {case.id[:10] for case in found.cases if not case.test}
    changed = acdc.read(tmp_path, protocol="acdc", validate_on_test=True)
    assert changed.splits is not None
    assert (len(changed.splits.folds[0].train), len(changed.splits.folds[0].validation)) == (160, 40)


def test_values_are_those_of_the_download(tmp_path):
    folder = patient(tmp_path / "training/patient001")
    converted = convert("acdc", tmp_path, tmp_path / "w")
    written = read_image(converted.folder / "imagesTr/patient001_frame12_0000.nii.gz").array
    original = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "patient001_frame12.nii.gz")))
    np.testing.assert_array_equal(written[0], original)


def test_a_workspace_inside_of_the_download_is_no_part_of_it(tmp_path):
    patient(tmp_path / "training/patient001")
    first = convert("acdc", tmp_path, tmp_path / "unetrpp_workspace")
    assert convert("acdc", tmp_path, tmp_path / "unetrpp_workspace") == first
    assert first.errors == ()
    assert len(first.cases) == 2


def test_patients_without_frames_are_named(tmp_path):
    patient(tmp_path / "training/patient001")
    for file in patient(tmp_path / "training/patient002").glob("*frame*"):
        file.unlink()
    (tmp_path / "training/patient003").mkdir()
    [second, third] = convert("acdc", tmp_path, tmp_path / "w").errors
    assert (second.case, third.case) == ("training/patient002", "training/patient003")
    assert "holds no frame" in second.message


def test_the_folder_testing_alone_has_test_cases(tmp_path, monkeypatch, caplog):
    patient(tmp_path / "database/testing/patient101", labelled=False)
    monkeypatch.chdir(tmp_path / "database/testing")
    assert len(convert("acdc", Path(), tmp_path / "w").test_cases) == 2
    assert "no training case, so dataset.json is not written" in caplog.text
