"""Two real BIDS trees in miniature (ARC and spine-generic), tables of dseg, sessions, annexed files, to training."""

import json
import shutil

import numpy as np
import pytest

from tests.helpers.downloads import convert, label, scan, train_two_steps
from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset_conversion.convert import main
from unetrpp.io.images import read_image, read_label

ARC = "sub-{}/ses-{}/anat/sub-{}_ses-{}_{}"
LESIONS = "derivatives/lesion_masks/"


def arc(root, subject, session, name, *, values=(), seed=0):
    """One file of ARC: an image, or with values a mask of the derivatives."""
    place = ARC.format(subject, session, subject, session, name)
    return label(root / LESIONS / place, values, seed=seed) if values else scan(root / place, seed=seed)


@pytest.fixture
def lesions(tmp_path):
    """Subjects of ARC: one with two sessions, one whose FLAIR has other entities, one without a mask."""
    root = tmp_path / "ds004884"
    for i, (subject, session, acq) in enumerate(
        (
            ("M2001", "1253", "acq-spc3_run-3"),
            ("M2005", "1034", "acq-spc3p2_run-2"),
            ("M2005", "2446", "acq-spc3_run-5"),
        )
    ):
        arc(root, subject, session, f"{acq}_T2w.nii.gz", seed=10 * i)
        arc(root, subject, session, f"{acq}_T2w_desc-lesion_mask.nii.gz", values=[1], seed=i)
        arc(root, subject, session, "acq-tfl3p2_run-2_T1w.nii.gz", seed=10 * i + 1)
        arc(root, subject, session, "acq-spcir2p2_run-9_FLAIR.nii.gz", seed=10 * i + 2)
    (root / "dataset_description.json").write_text('{"Name": "ARC", "BIDSVersion": "1.6.0"}')
    (root / "participants.tsv").write_text("participant_id\tsex\nsub-M2001\tF\n")
    (root / "sub-M2001/ses-1253/anat/._sub-M2001_ses-1253_acq-spc3_run-3_T2w.nii.gz").write_bytes(b"\0")
    (root / ".git/annex/objects").mkdir(parents=True)
    scan(root / ".git/annex/objects/sub-M9_T2w.nii.gz")
    return root


def spine(root, subject, name, *, values=(), seed=0):
    place = f"sub-{subject}/{'dwi' if name.startswith('dwi') else 'anat'}/sub-{subject}_{name}.nii.gz"
    return label(root / "derivatives/labels" / place, values, seed=seed) if values else scan(root / place, seed=seed)


@pytest.fixture
def cords(tmp_path):
    root = tmp_path / "data-single-subject"
    for i, subject in enumerate(("oxfordFmrib", "perform", "tokyoSigna2")):
        for j, name in enumerate(("T1w", "T2w", "T2star", "flip-1_mt-off_MTS", "flip-1_mt-on_MTS", "dwi")):
            spine(root, subject, name, seed=10 * i + j)
        spine(root, subject, "T1w_seg-manual", values=[1], seed=i)
        spine(root, subject, "dwi_moco_dwi_mean_seg-manual", values=[1], seed=i)
    spine(root, "oxfordFmrib", "T1w_labels-disc-manual", values=[3, 4])
    return root


def reasons(converted):
    return {error.case: error.message for error in converted.errors}


def test_masks_of_several_sessions_are_found_and_grouped_by_subject(lesions, tmp_path, caplog):
    caplog.set_level("INFO")
    converted = convert("bids", lesions, tmp_path / "w")
    assert converted.errors == ()
    two = ("sub-M2005_ses-1034_acq-spc3p2_run-2", "sub-M2005_ses-2446_acq-spc3_run-5")
    assert converted.cases == ("sub-M2001_ses-1253_acq-spc3_run-3", *two)
    dataset = read_dataset(converted.folder, "x")
    assert dataset.description.channel_names == ("T2w",)
    assert dataset.description.labels.names == ("background", "lesion")
    assert dataset.description.groups == dict(zip(converted.cases, ("M2001", "M2005", "M2005"), strict=True))
    assert "found 3 images T2w, 3 labels desc-lesion_mask as 'lesion'" in caplog.text
    for case in dataset.cases:
        subject, session, rest = case.id.removeprefix("sub-").replace("_ses-", "_").split("_", 2)
        place = ARC.format(subject, session, subject, session, f"{rest}_T2w")
        np.testing.assert_array_equal(read_image(case.images).array, read_image(lesions / f"{place}.nii.gz").array)
        mask = read_label(lesions / LESIONS / f"{place}_desc-lesion_mask.nii.gz").array
        assert case.label is not None
        np.testing.assert_array_equal(read_label(case.label).array, mask)
    assert train_two_steps(converted, tmp_path / "w").is_file()


def test_other_channels_come_from_the_same_session(lesions, tmp_path):
    arc(lesions, "M2001", "1253", "acq-tir2_run-4_FLAIR.nii.gz", seed=77)
    shutil.rmtree(lesions / "sub-M2005/ses-2446/anat")
    arc(lesions, "M2005", "2446", "acq-spc3_run-5_T2w.nii.gz", seed=20)
    found = reasons(convert("bids", lesions, tmp_path / "w", suffix=["T2w", "FLAIR"]))
    assert found.keys() == {"sub-M2001_ses-1253_acq-spc3_run-3", "sub-M2005_ses-2446_acq-spc3_run-5"}
    assert "has several FLAIR (ses-1253/anat/sub-M2001_ses" in found["sub-M2001_ses-1253_acq-spc3_run-3"]
    assert "has no FLAIR" in found["sub-M2005_ses-2446_acq-spc3_run-5"]
    chosen = convert("bids", lesions, tmp_path / "w2", suffix=["T2w", "acq-spcir2p2_FLAIR"])
    dataset = read_dataset(chosen.folder, "x")
    assert dataset.description.channel_names == ("T2w", "acq-spcir2p2_FLAIR")
    place = ARC.format("M2001", "1253", "M2001", "1253", "acq-spcir2p2_run-9_FLAIR.nii.gz")
    np.testing.assert_array_equal(read_image(dataset.cases[0].images[1]).array, read_image(lesions / place).array)


def test_images_and_labels_without_a_partner_are_named(lesions, tmp_path):
    arc(lesions, "M2006", "2381", "acq-spc3_run-5_T2w.nii.gz")
    arc(lesions, "M2007", "6330", "acq-tse3_run-5_T2w_desc-lesion_mask.nii.gz", values=[1])
    arc(lesions, "M2001", "1253", "acq-spc3_run-3_T2w.nii")
    found = reasons(convert("bids", lesions, tmp_path / "w"))
    assert "has no label desc-lesion_mask" in found.pop("sub-M2006_ses-2381_acq-spc3_run-5")
    assert "T2w image is not there" in found.pop("sub-M2007_ses-6330_acq-tse3_run-5_T2w_desc-lesion_mask")
    assert "is there 2 times" in found.pop("sub-M2001_ses-1253_acq-spc3_run-3")
    assert not found
    shutil.copytree(lesions / LESIONS, lesions / "derivatives/older")
    with pytest.raises(UserError, match=r"none of 4 cases is complete: sub-M2001.* is there 2 times"):
        convert("bids", lesions, tmp_path / "w2")
    (lesions / "derivatives/older").joinpath(
        ARC.format("M2005", "1034", "M2005", "1034", "acq-spc3p2_run-2_T2w_desc-lesion_mask.nii.gz")
    ).unlink()
    [reason] = [r for r in reasons(convert("bids", lesions, tmp_path / "w2")).values() if "several labels" in r]
    assert "choose with --labels or --derivatives" in reason
    assert "(lesion_masks/sub-" in reason
    assert " and older/sub-" in reason
    assert len(convert("bids", lesions, tmp_path / "w3", derivatives=LESIONS).cases) == 2


def test_a_dataset_beside_its_derivatives_is_the_same(lesions, tmp_path):
    whole = tmp_path / "study"
    shutil.move(lesions, whole / "rawdata")
    shutil.move(whole / "rawdata/derivatives", whole / "derivatives")
    assert len(convert("bids", whole, tmp_path / "w").cases) == 3


def test_files_that_git_annex_has_not_fetched_are_named_with_the_repair(lesions, tmp_path):
    pointer = lesions / ARC.format("M2001", "1253", "M2001", "1253", "acq-spc3_run-3_T2w.nii.gz")
    pointer.write_text("/annex/objects/MD5E-s13014183--3b6a2fbe5a8b5f1f3ab2e1f3fa6a3f19.nii.gz\n")
    link = (
        lesions / LESIONS / ARC.format("M2005", "1034", "M2005", "1034", "acq-spc3p2_run-2_T2w_desc-lesion_mask.nii.gz")
    )
    link.unlink()
    link.symlink_to("../../../../../.git/annex/objects/Xk/0p/MD5E-s1.nii.gz/MD5E-s1.nii.gz")
    converted = convert("bids", lesions, tmp_path / "w")
    assert converted.cases == ("sub-M2005_ses-2446_acq-spc3_run-5",)
    found = reasons(converted)
    assert "git-annex pointer" in found["sub-M2001_ses-1253_acq-spc3_run-3"]
    assert "datalad get" in found["sub-M2001_ses-1253_acq-spc3_run-3"]
    assert "git annex get" in found["sub-M2005_ses-1034_acq-spc3p2_run-2"]


def test_several_kinds_are_listed_with_their_counts(cords, tmp_path):
    listed = r"labels-disc-manual \(1 file\)"
    with pytest.raises(UserError, match=rf"which labels.*seg-manual \(3 files\).*{listed}"):
        convert("bids", cords, tmp_path / "w")
    with pytest.raises(UserError, match=r"which images\? .*T1w \(3 files\) and dwi \(3 files\)"):
        convert("bids", cords, tmp_path / "w", labels=["seg-manual"])
    with pytest.raises(UserError, match=rf"has no label gmseg-manual; it has .*{listed}"):
        convert("bids", cords, tmp_path / "w", labels=["gmseg-manual"])
    with pytest.raises(UserError, match="the labels are named after T1w and dwi images, not T2w; give --suffix"):
        convert("bids", cords, tmp_path / "w", labels=["seg-manual"], suffix=["T2w"])
    with pytest.raises(UserError, match=r"'lesion=' is not a part of a name"):
        convert("bids", cords, tmp_path / "w", labels=["lesion="])


def test_labels_of_other_images_are_not_taken_and_classes_are_named(cords, tmp_path):
    command = ["bids", cords, "--workspace", tmp_path / "w", "--processes", "1", "--suffix", "T1w"]
    assert main([*map(str, command), "--labels", "cord=seg-manual"]) == 0
    dataset = read_dataset(tmp_path / "w/raw/data-single-subject", "x")
    assert [case.id for case in dataset.cases] == ["sub-oxfordFmrib", "sub-perform", "sub-tokyoSigna2"]
    assert dataset.description.labels.names == ("background", "cord")
    assert dataset.description.groups is None
    converted = convert(
        "bids", cords, tmp_path / "w2", suffix=["T1w"], labels=["cord=seg-manual", "disc=labels-disc-manual"]
    )
    assert reasons(converted).keys() == {"sub-oxfordFmrib", "sub-perform", "sub-tokyoSigna2"}
    assert "holds the values 3, 4, but a mask is 0 and one other value" in reasons(converted)["sub-oxfordFmrib"]
    assert "has no label labels-disc-manual" in reasons(converted)["sub-perform"]


def segmentations(root, *, name="dseg"):
    for i in range(2):
        scan(root / f"sub-0{i}/anat/sub-0{i}_T1w.nii.gz", seed=i)
        label(root / f"derivatives/seg/sub-0{i}/anat/sub-0{i}_{name}.nii.gz", [100, 101], seed=i)


TSV = "index\tname\tabbreviation\tcolor\n0\tBackground\tBG\t#000000\n100\tGray Matter\tGM\t#ff53bb\n101\tWhite Matter\tWM\t#2f8bbe\n"


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("dseg.tsv", TSV),
        ("sub-00/anat/sub-00_dseg.tsv", TSV),
        ("dseg.json", json.dumps({"LabelMap": {"Gray Matter": 100, "White Matter": 101}})),
        ("dseg.json", json.dumps({"LabelMap": {"0": "BG", "100": "Gray Matter", "101": "White Matter"}})),
    ],
)
def test_tables_name_the_values_of_dseg(tmp_path, place, content):
    segmentations(tmp_path / "x")
    for subject in ("sub-00", "sub-01"):
        path = tmp_path / "x/derivatives/seg" / place.replace("sub-00", subject)
        path.write_text(content)
    (tmp_path / "x/derivatives/seg/sub-00/anat/sub-00_dseg.json").write_text('{"SpatialReference": "orig"}')
    (tmp_path / "x/derivatives/seg/sub-00/anat/sub-00_desc-aseg_dseg.tsv").write_text("of another kind")
    (tmp_path / "x/derivatives/seg/segmentation.tsv").write_text("no table")
    converted = convert("bids", tmp_path / "x", tmp_path / "w")
    assert converted.errors == ()
    labels = read_dataset(converted.folder, "x").description.labels
    assert (labels.names, labels.values) == (("background", "Gray Matter", "White Matter"), (0, 100, 101))


def test_tables_that_lack_or_differ_are_refused(tmp_path):
    segmentations(tmp_path / "x")
    with pytest.raises(UserError, match=r"no table names the values of dseg; write a dseg\.tsv"):
        convert("bids", tmp_path / "x", tmp_path / "w")
    for i, text in enumerate((TSV, TSV.replace("Gray", "Grey"))):
        (tmp_path / f"x/derivatives/seg/sub-0{i}/anat/sub-0{i}_dseg.tsv").write_text(text)
    with pytest.raises(UserError, match=r"sub-00_dseg\.tsv and .*sub-01_dseg\.tsv name different classes"):
        convert("bids", tmp_path / "x", tmp_path / "w")


def test_a_value_that_the_table_lacks_is_named_with_a_repair_that_exists(tmp_path):
    segmentations(tmp_path / "x")
    (tmp_path / "x/derivatives/seg/dseg.tsv").write_text("index\tname\n100\tGray Matter\n")
    found = reasons(convert("bids", tmp_path / "x", tmp_path / "w"))
    assert len(found) == 2
    for reason in found.values():
        assert "holds the label 101, but only 0, 100 are declared; correct the file, or the list of classes" in reason
        assert "--label" not in reason


def test_several_datasets_in_one_folder_are_refused(tmp_path):
    for name in ("a", "b", "sourcedata"):
        segmentations(tmp_path / "all" / name)
    with pytest.raises(UserError, match=r"holds several BIDS datasets \(a and b\); give one of the folders"):
        convert("bids", tmp_path / "all", tmp_path / "w")
    shutil.rmtree(tmp_path / "all/b")
    (tmp_path / "all/a/derivatives/seg/dseg.tsv").write_text(TSV)
    assert convert("bids", tmp_path / "all", tmp_path / "w").errors == ()


def test_a_label_of_exactly_the_kind_counts_before_one_in_another_space(tmp_path):
    segmentations(tmp_path / "x", name="label-L_mask")
    for i in range(2):
        label(
            tmp_path / f"x/derivatives/seg/sub-0{i}/anat/sub-0{i}_space-MNI_label-L_mask.nii.gz", [1], shape=(4, 5, 6)
        )
        path = tmp_path / f"x/derivatives/seg/sub-0{i}/anat/sub-0{i}_label-L_mask.nii.gz"
        label(path, [1], seed=i)
    converted = convert("bids", tmp_path / "x", tmp_path / "w", labels=["mask_label-L"])
    assert converted.errors == ()
    dataset = read_dataset(converted.folder, "x")
    assert dataset.description.labels.names == ("background", "L")
    assert all(case.label and read_label(case.label).array.shape[1:] == (12, 16, 16) for case in dataset.cases)


def test_a_label_that_could_be_of_several_runs_is_not_guessed(tmp_path):
    for subject, run in (("01", "1"), ("01", "2"), ("02", "1")):
        scan(tmp_path / f"x/sub-{subject}/anat/sub-{subject}_run-{run}_T1w.nii.gz", seed=int(run))
        label(tmp_path / f"x/derivatives/seg/sub-{subject}/anat/sub-{subject}_desc-lesion_mask.nii.gz", [1])
    found = reasons(convert("bids", tmp_path / "x", tmp_path / "w"))
    assert found.keys() == {"sub-01_run-1", "sub-01_run-2"}
    assert "has the same label as sub-01_run-1" in found["sub-01_run-2"]
    assert convert("bids", tmp_path / "x", tmp_path / "w2", suffix=["run-1_T1w"]).cases == (
        "sub-01_run-1",
        "sub-02_run-1",
    )


def test_a_folder_without_subjects_or_labels_is_refused(lesions, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no folders sub-"):
        convert("bids", tmp_path / "empty", tmp_path / "w")
    with pytest.raises(UserError, match=r"--derivatives .*gone is not a folder"):
        convert("bids", lesions, tmp_path / "w", derivatives="gone")
    shutil.rmtree(lesions / "derivatives")
    with pytest.raises(UserError, match="has no labels in its derivatives"):
        convert("bids", lesions, tmp_path / "w")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "listing", "choices", "complete", "others"),
    [
        ("OpenNeuro_ds004884_ARC", "tree_anat_lesion.txt", {}, 228, 213),
        ("spine-generic_data-single-subject", "tree.txt", {"labels": ["seg-manual"], "suffix": ["T1w"]}, 3, 16),
    ],
)
def test_the_real_trees_pair_every_label_with_its_image(test_data, tmp_path, name, listing, choices, complete, others):
    """Of the trees alone, without content: the links and pointers themselves are what is named."""
    lines = (test_data / "samples/bids_trees" / name / listing).read_text().splitlines()[1:]
    for _, mode, path in (line.split("\t") for line in lines):
        place = tmp_path / "x" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if mode == "120000":
            place.symlink_to("../.git/annex/objects/gone")
        else:
            place.write_text("{}" if path.endswith(".json") else "/annex/objects/MD5E-s1--0.nii.gz\n")
    found = reasons(convert("bids", tmp_path / "x", tmp_path / "w", **choices))
    assert sum("annex get" in reason for reason in found.values()) == complete
    assert sum("has no label" in reason for reason in found.values()) == others
    assert len(found) == complete + others
