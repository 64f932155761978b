"""M&Ms in miniature: frames of 4D series by the table of the download."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.downloads import convert, scan, train_two_steps
from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import read_dataset
from unetrpp.io.images import read_image, read_label

FRAMES, SHAPE = 4, (12, 16, 16)
TABLE = {"A0S9V9": ("A", 0, 2), "A1D9Z7": ("B", 1, 3), "B2D9O2": ("A", 0, 3), "C4K8M1": ("D", 0, 1)}


def write(folder, patient, seed=0):
    path = scan(folder / patient / f"{patient}_sa.nii.gz", seed=seed, channels=FRAMES)
    _, ed, es = TABLE[patient]
    series = np.zeros((FRAMES, *SHAPE), np.uint8)
    for n in (ed, es):
        series[n] = np.random.default_rng(seed + n).integers(0, 4, SHAPE)
    labels = sitk.GetImageFromArray(series, isVector=False)
    labels.SetSpacing((1.0, 1.0, 1.0, 1.0))
    sitk.WriteImage(labels, str(path).replace("_sa", "_sa_gt"))
    return series


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "OpenDataset"
    for seed, patient in enumerate(("A0S9V9", "A1D9Z7", "B2D9O2")):
        write(root / "Training/Labeled", patient, seed)
    write(root / "Testing", "C4K8M1", 5)
    scan(root / "Training/Unlabeled/C0S7W0/C0S7W0_sa.nii.gz", channels=FRAMES)
    write_table(root, TABLE)
    return root


def write_table(root, table):
    rows = [f"{i},{code},Siemens,{vendor},1,{ed},{es}" for i, (code, (vendor, ed, es)) in enumerate(table.items())]
    text = "\n".join((",External code,VendorName,Vendor,Centre,ED,ES", *rows))
    (root / "211230_M&Ms_Dataset_information_diagnosis_opendataset.csv").write_text("\ufeff" + text)


def test_a_download_goes_to_training(source, tmp_path, caplog):
    caplog.set_level("INFO")
    converted = convert("mnms", source, tmp_path / "w")
    assert converted.errors == ()
    training = [f"{patient}_{phase}" for patient in ("A0S9V9", "A1D9Z7", "B2D9O2") for phase in ("ED", "ES")]
    assert converted.cases == (*training, "C4K8M1_ED", "C4K8M1_ES")
    assert converted.test_cases == ("C4K8M1_ED", "C4K8M1_ES")
    for case, n in (("A1D9Z7_ED", 1), ("A1D9Z7_ES", 3)):
        series = sitk.GetArrayFromImage(sitk.ReadImage(str(source / "Training/Labeled/A1D9Z7/A1D9Z7_sa.nii.gz")))
        np.testing.assert_array_equal(read_image(converted.folder / f"imagesTr/{case}_0000.nii.gz").array[0], series[n])
    drawn = read_label(converted.folder / "labelsTs/C4K8M1_ES.nii.gz").array[0]
    np.testing.assert_array_equal(drawn, np.random.default_rng(6).integers(0, 4, SHAPE))
    groups = read_dataset(converted.folder, "x").description.groups
    assert groups == {case: case[:6] for case in training}
    assert "training cases are of 2 patients of vendor A, 1 patient of vendor B" in caplog.text
    assert train_two_steps(converted, tmp_path / "w").is_file()


def test_what_makes_no_case_is_named(source, tmp_path):
    labelled = source / "Training/Labeled"
    (labelled / "A0S9V9/A0S9V9_sa_gt.nii.gz").unlink()
    write_table(source, {**TABLE, "A1D9Z7": ("B", "", 3), "B2D9O2": ("A", 0, 9)})
    write(source / "Validation", "C4K8M1")
    scan(labelled / "A1D9Z7/A1D9Z7_la.nii.gz")
    converted = convert("mnms", source, tmp_path / "w")
    errors = {error.case: error.message for error in converted.errors}
    assert errors["A0S9V9"] == "has no A0S9V9_sa_gt.nii.gz; complete the download"
    assert errors["A1D9Z7"] == "has no whole numbers ED and ES in the table; correct the table"
    assert "B2D9O2_sa.nii.gz holds 4 volumes, so there is none of number 9" in errors["B2D9O2_ES"]
    assert "is in two parts of the dataset" in errors["C4K8M1_ED"]
    assert "is no short-axis series" in errors["Training/Labeled/A1D9Z7/A1D9Z7_la.nii.gz"]
    assert converted.cases == ("B2D9O2_ED",)


def test_a_table_without_its_columns_is_refused(source, tmp_path):
    table = next(source.glob("*.csv"))
    table.write_text("External code,ED\nA0S9V9,1\n")
    with pytest.raises(UserError, match="has no column 'ES'; download it again"):
        convert("mnms", source, tmp_path / "w")
    table.unlink()
    with pytest.raises(UserError, match=r"needs one \.csv with the frames of all patients, but has 0"):
        convert("mnms", source, tmp_path / "w")


def test_sheared_series_are_set_at_right_angles_and_named(source, tmp_path, caplog):
    sheared = np.eye(4)
    sheared[0, 2] = np.tan(np.radians(0.5))
    folder = source / "Testing/C4K8M1"
    for path in folder.iterdir():
        image = nib.Nifti1Image.from_filename(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), sheared), path)
    converted = convert("mnms", source, tmp_path / "w")
    assert converted.errors == ()
    assert "the axes of C4K8M1_sa_gt.nii.gz were sheared; they were set at right angles" in caplog.text
    for part, name, frame in (("imagesTs", "_ES_0000", "_sa"), ("labelsTs", "_ES", "_sa_gt")):
        written = nib.Nifti1Image.from_filename(converted.folder / f"{part}/C4K8M1{name}.nii.gz")
        series = nib.Nifti1Image.from_filename(folder / f"C4K8M1{frame}.nii.gz")
        np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(series.dataobj)[..., 1])
        assert abs(written.affine[:3, 0] @ written.affine[:3, 2]) < 1e-5


def test_patients_of_the_table_without_a_folder_are_said(source, tmp_path, caplog):
    caplog.set_level("INFO")
    write_table(source, TABLE | {"C0S7W0": ("C", 0, 1), "Z9Z9Z9": ("B", 0, 1)})
    assert convert("mnms", source, tmp_path / "w").errors == ()
    assert "1 patient of the table has no folder (Z9Z9Z9)" in caplog.text
