"""BraTS in miniature: both generations of names, the labels of every edition, and what is refused."""

import shutil

import numpy as np
import pytest

from tests.helpers.downloads import convert, label, scan, train_two_steps
from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset_conversion.datasets import brats
from unetrpp.io.images import read_image, read_label

OLD, NEW = ("_t1", "_t1ce", "_t2", "_flair"), ("-t1n", "-t1c", "-t2w", "-t2f")
WHOLE, CORE, ENHANCING = ("whole tumour", "tumour core", "enhancing tumour")


def case(folder, values=(1, 2, 4), *, endings=OLD, ending=".nii.gz", seg=True, seed=0):
    """The files of a case in a folder of its name; channel i has the values of seed 10 * seed + i."""
    for i, channel in enumerate(endings):
        scan(folder / f"{folder.name}{channel}{ending}", seed=10 * seed + i)
    if seg:
        label(folder / f"{folder.name}{endings[0][0]}seg{ending}", values, seed=seed)
    return folder


def regions(source):
    """Region -> the values in files that belong to it, and the value that is written for it."""
    scheme = source.labels
    return {r.name: (sorted(scheme.values[m] for m in r.members), r.value) for r in scheme.regions}


def test_2020_goes_from_the_widespread_copy_to_training(tmp_path, caplog):
    """Uncompressed, with the label of case 355 under another name, and validation cases without labels."""
    caplog.set_level("INFO")
    root = tmp_path / "BraTS2020 é/MICCAI_BraTS2020_TrainingData"
    for i in (1, 2):
        case(root / f"BraTS20_Training_00{i}", ending=".nii", seed=i)
    odd = case(root / "BraTS20_Training_355", ending=".nii", seed=3)
    (odd / "BraTS20_Training_355_seg.nii").rename(odd / "W39_1998.09.19_Segm.nii")
    case(root.parent / "MICCAI_BraTS2020_ValidationData/BraTS20_Validation_001", ending=".nii", seg=False)
    (root / "survival_info.csv").write_text("Brats20ID\n")
    (root / "BraTS20_Training_001/._BraTS20_Training_001_t1.nii").write_bytes(b"\0")
    converted = convert("brats", tmp_path / "BraTS2020 é", tmp_path / "w", name="BraTS2020")
    assert converted.errors == ()
    assert converted.cases == (
        "BraTS20_Training_001",
        "BraTS20_Training_002",
        "BraTS20_Training_355",
        "BraTS20_Validation_001",
    )
    assert converted.test_cases == ("BraTS20_Validation_001",)
    assert "W39_1998.09.19_Segm.nii is taken as the label of BraTS20_Training_355" in caplog.text
    description = read_dataset(converted.folder, "BraTS2020").description
    assert description.channel_names == ("T1", "T1ce", "T2", "FLAIR")
    assert description.groups is None
    for i, channel in enumerate(OLD):
        written = read_image(converted.folder / f"imagesTr/BraTS20_Training_002_{i:04d}.nii").array
        original = read_image(root / f"BraTS20_Training_002/BraTS20_Training_002{channel}.nii").array
        np.testing.assert_array_equal(written, original)
    assert set(np.unique(read_label(converted.folder / "labelsTr/BraTS20_Training_355.nii").array)) == {0, 1, 2, 4}
    assert train_two_steps(converted, tmp_path / "w").is_file()


@pytest.mark.parametrize(
    ("name", "year", "expected"),
    [
        ("HGG/Brats18_2013_11_1", None, {WHOLE: ([1, 2, 4], 2), CORE: ([1, 4], 1), ENHANCING: ([4], 4)}),
        ("LGG/BraTS19_TCIA10_282_1", 2019, {WHOLE: ([1, 2, 4], 2), CORE: ([1, 4], 1), ENHANCING: ([4], 4)}),
        ("BraTS2021_00000", None, {WHOLE: ([1, 2, 4], 2), CORE: ([1, 4], 1), ENHANCING: ([4], 4)}),
        ("BraTS-GLI-00000-000", None, {WHOLE: ([1, 2, 3], 2), CORE: ([1, 3], 1), ENHANCING: ([3], 3)}),
        (
            "BraTS-GLI-02073-100",
            None,
            {WHOLE: ([1, 2, 3], 2), CORE: ([1, 3], 1), ENHANCING: ([3], 3), "resection cavity": ([4], 4)},
        ),
        ("BraTS-SSA-00002-000", None, {WHOLE: ([1, 2, 3], 2), CORE: ([1, 3], 1), ENHANCING: ([3], 3)}),
        ("BraTS-MET-00833-000", 2023, {WHOLE: ([1, 2, 3], 2), CORE: ([1, 3], 1), ENHANCING: ([3], 3)}),
        (
            "BraTS-MET-00833-000",
            2025,
            {WHOLE: ([1, 2, 3], 2), CORE: ([1, 3], 1), ENHANCING: ([3], 3), "resection cavity": ([4], 4)},
        ),
        ("BraTS-PED-00030-000", 2023, {WHOLE: ([1, 2, 3], 2), CORE: ([1, 3], 1), ENHANCING: ([3], 3)}),
        (
            "BraTS-PED-00030-000",
            2024,
            {WHOLE: ([1, 2, 3, 4], 4), CORE: ([1, 2, 3], 2), ENHANCING: ([1], 1), "cyst": ([3], 3)},
        ),
    ],
)
def test_regions_are_made_of_the_editions_own_values(tmp_path, name, year, expected):
    case(tmp_path / name, endings=NEW if "-" in name else OLD)
    found = brats.read(tmp_path, year=year)
    assert regions(found) == expected
    assert [c.id for c in found.cases] == [name.rpartition("/")[2]]
    assert len(found.channel_names) == 4


def test_2024_has_a_cavity_and_scans_of_one_patient_are_a_group(tmp_path):
    root = tmp_path / "BraTS2024-BraTS-GLI-TrainingData/training_data1_v2"
    for i, name in enumerate(("BraTS-GLI-02073-100", "BraTS-GLI-02073-101", "BraTS-GLI-00005-100")):
        case(root / name, (1, 2, 3, 4), endings=NEW, seed=i)
    converted = convert("brats", tmp_path, tmp_path / "w", name="GLI")
    assert converted.errors == ()
    description = read_dataset(converted.folder, "GLI").description
    assert description.channel_names == ("T1n", "T1c", "T2w", "T2f")
    assert description.groups == {
        "BraTS-GLI-00005-100": "BraTS-GLI-00005",
        "BraTS-GLI-02073-100": "BraTS-GLI-02073",
        "BraTS-GLI-02073-101": "BraTS-GLI-02073",
    }
    assert description.labels.segments()[WHOLE] == (2, 1, 3)  # a predicted cavity is not of the tumour


def test_what_is_odd_in_a_download_is_named_and_the_rest_converted(tmp_path):
    for i in range(5):
        case(tmp_path / f"BraTS2021_0000{i}", seed=i)
    (tmp_path / "BraTS2021_00001/BraTS2021_00001_t2.nii.gz").unlink()
    (tmp_path / "BraTS2021_00001/BraTS2021_00001_t1ce.nii.gz").unlink()
    (tmp_path / "BraTS2021_00002/BraTS2021_00002_seg.nii.gz").unlink()
    shutil.copytree(tmp_path / "BraTS2021_00003", tmp_path / "copy/BraTS2021_00003")
    label(tmp_path / "BraTS2021_00004/BraTS2021_00004_seg.nii.gz", (1, 2, 3))
    (tmp_path / "BraTS2021_00000/BraTS2021_00000_t1.nii.gz").rename(
        tmp_path / "BraTS2021_00000/BraTS2021_00000_T1.NII.GZ"
    )
    scan(tmp_path / "BraTS2021_00000/BraTS2021_00000_t1_bias.nii.gz")
    converted = convert("brats", tmp_path, tmp_path / "w", name="B")
    assert converted.cases == ("BraTS2021_00000",)
    errors = {error.case: error.message for error in converted.errors}
    assert "has no t1ce and t2 (4 channels are needed)" in errors["BraTS2021_00001"]
    assert "has no label" in errors["BraTS2021_00002"]
    assert "keep one" in errors["copy/BraTS2021_00003/BraTS2021_00003_flair.nii.gz"]
    assert "holds the label 3, but only 0, 1, 2, 4 are declared" in errors["BraTS2021_00004"]
    assert "is no file of a case" in errors["BraTS2021_00000/BraTS2021_00000_t1_bias.nii.gz"]
    assert not any("00001/" in name or "00002/" in name for name in errors)  # each of these is named once


def test_unknown_unclear_and_mixed_editions_are_refused(tmp_path):
    def made(*names):
        root = tmp_path / "_".join(names)
        for name in names:
            case(root / name, endings=NEW if "-" in name else OLD)
        return root

    with pytest.raises(UserError, match=r"has no file such as BraTS20_Training_001_t1\.nii\.gz"):
        brats.read(tmp_path)
    with pytest.raises(
        UserError, match=r"Brats17_TCIA_105_1 is of no known challenge \(BraTS 2018 to 2021, .*PED 2024"
    ):
        brats.read(made("Brats17_TCIA_105_1"))
    with pytest.raises(
        UserError, match="does not tell PED 2023 from PED 2024 and 2025, whose labels differ; give --year"
    ):
        brats.read(made("BraTS-PED-00030-000"))
    with pytest.raises(UserError, match="does not tell MET 2023 and 2024 from MET 2025"):
        brats.read(made("BraTS-MET-00030-000"))
    with pytest.raises(UserError, match="is not of --year 2022; its names are known of 2018, 2019, 2020, 2021"):
        brats.read(made("BraTS20_Training_001"), year=2022)
    with pytest.raises(
        UserError, match="holds cases of GLI before treatment and GLI after treatment, whose labels differ"
    ):
        brats.read(made("BraTS-GLI-00000-000", "BraTS-GLI-02073-100"))


@pytest.mark.slow
def test_a_real_case_in_the_form_of_2020(tmp_path, test_data):
    """Real channels on BraTS's grid, with a segmentation by an algorithm in its old values in place of an expert's."""
    found = test_data / "samples/brats_tcga_seg/BraTS-Toolkit/data/TCGA-DU-7294/TCGA-DU-7294_brainles"
    folder = tmp_path / "BraTS20_Training_001"
    folder.mkdir()
    for ours, theirs in (("t1", "t1"), ("t1ce", "t1c"), ("t2", "t2"), ("flair", "fla")):
        shutil.copy(found / f"raw_bet/TCGA-DU-7294_{theirs}_bet.nii.gz", folder / f"BraTS20_Training_001_{ours}.nii.gz")
    shutil.copy(found / "segmentation/sanet0-20.nii.gz", folder / "BraTS20_Training_001_seg.nii.gz")
    converted = convert("brats", tmp_path, tmp_path / "w", name="Real")
    assert converted.errors == ()
    for i, theirs in enumerate(("t1", "t1c", "t2", "fla")):
        written = read_image(converted.folder / f"imagesTr/BraTS20_Training_001_{i:04d}.nii.gz").array
        np.testing.assert_array_equal(written, read_image(found / f"raw_bet/TCGA-DU-7294_{theirs}_bet.nii.gz").array)
    values = np.unique(read_label(converted.folder / "labelsTr/BraTS20_Training_001.nii.gz").array)
    assert values.tolist() == [0, 1, 2, 4]


def test_a_training_case_without_a_label_is_no_test_case_whatever_a_folder_above_says(tmp_path):
    """A widespread archive unpacks to a folder whose name has both words."""
    root = tmp_path / "brats20-dataset-training-validation"
    case(root / "BraTS2020_TrainingData/BraTS20_Training_001", seed=1)
    case(root / "BraTS2020_TrainingData/BraTS20_Training_002", seg=False, seed=2)
    case(root / "BraTS2020_ValidationData/BraTS20_Validation_001", seg=False, seed=3)
    for i, part in ((1, "TrainingData"), (2, "ValidationData")):
        case(tmp_path / f"gli/validation/2023-{part}/BraTS-GLI-0000{i}-000", seg=False, endings=NEW)
    case(tmp_path / "gli/BraTS-GLI-00003-000", (1, 2, 3), endings=NEW)
    converted = convert("brats", root, tmp_path / "w")
    assert converted.test_cases == ("BraTS20_Validation_001",)
    assert [(error.case, error.message[:12]) for error in converted.errors] == [
        ("BraTS20_Training_002", "has no label")
    ]
    converted = convert("brats", tmp_path / "gli", tmp_path / "w")
    assert converted.test_cases == ("BraTS-GLI-00002-000",)
    assert [error.case for error in converted.errors] == ["BraTS-GLI-00001-000"]


def test_cases_without_images_are_named(tmp_path):
    case(tmp_path / "d/BraTS20_Training_001")
    for file in case(tmp_path / "d/BraTS20_Training_002").glob("*[!g].nii.gz"):
        file.unlink()
    (tmp_path / "d/BraTS20_Training_003").mkdir()
    errors = convert("brats", tmp_path / "d", tmp_path / "w").errors
    assert [error.case for error in errors] == ["BraTS20_Training_002", "BraTS20_Training_003"]
    assert all(error.message.startswith("has no t1, t1ce, t2 and 1 more") for error in errors)


def test_a_value_of_another_year_is_refused_without_advice_for_other_commands(tmp_path):
    case(tmp_path / "d/BraTS-GLI-00001-000", (1, 2, 3), endings=NEW)
    case(tmp_path / "d/BraTS-GLI-00002-000", (1, 2, 4), endings=NEW)
    [error] = convert("brats", tmp_path / "d", tmp_path / "w").errors
    assert error.message.endswith(
        "only 0, 1, 2, 3 are declared; correct the file, or the list of classes that came with it, or download it again"
    )
