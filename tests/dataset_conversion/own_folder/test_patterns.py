"""What patterns match: folders, paths with {case}, absolute ones, folders of DICOM series, and what they pass over."""

import os
import re
import shutil
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.dicom_files import write_enhanced, write_series
from tests.helpers.source_folder import convert, files_in, make_source
from unetrpp.core.errors import UserError
from unetrpp.dataset_conversion.folder import convert_folder
from unetrpp.dataset_conversion.own_folder.pairing import Layout, find_cases
from unetrpp.dataset_conversion.own_folder.patterns import Pattern, not_used
from unetrpp.io.images import read_image, read_label

ARRAY = np.random.default_rng(0).integers(0, 200, (3, 6, 8)).astype(np.uint16)


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write_label(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray((ARRAY > 100).astype(np.uint8))
    image.SetSpacing((1.0, 1.0, 2.0))
    sitk.WriteImage(image, str(path))


@pytest.mark.parametrize(
    "text",
    ["images", "./images", "images/", "{root}/images", "../src/images", "images/../images", "./images/{case}.nii.gz"],
)
def test_one_folder_in_all_the_ways_it_can_be_written(tmp_path, text):
    root = tmp_path / "src"
    touch(root, "images/a.nii.gz", "images/b.nii.gz", "labels/a.nii.gz")
    found = Pattern(root, text.replace("{root}", str(root))).files()
    assert {case: [path.resolve() for path in paths] for case, paths in found.items()} == {
        case: [root.resolve() / "images" / f"{case}.nii.gz"] for case in "ab"
    }


def test_a_folder_outside_of_the_source(tmp_path):
    touch(tmp_path, "src/images/a.nii.gz", "drawn/a.nii.gz")
    for text in ("../drawn", str(tmp_path / "drawn"), str(tmp_path / "drawn" / "{case}.nii.gz")):
        assert list(Pattern(tmp_path / "src", text).files()) == ["a"]


def test_a_root_with_the_signs_of_a_pattern_in_its_name(tmp_path):
    touch(tmp_path, "a*b/images/x.nii.gz")
    assert list(Pattern(tmp_path / "a*b", "images").files()) == ["x"]
    with pytest.raises(UserError, match="write the path without it"):
        Pattern(tmp_path / "a*b", "{case}/../y.nii.gz").files()


def test_cases_that_are_folders_of_dicom_series(tmp_path):
    for case in ("p1", "p2"):
        write_series(tmp_path / "src" / "images" / case, ARRAY)
        write_label(tmp_path / "src" / "labels" / f"{case}.nii.gz")
    options = {"labels": "labels", "channel": ["MR"], "label": {"a": 1}, "workspace": tmp_path / "w", "processes": 1}
    for name, images in (("plain", "images"), ("pattern", str(tmp_path / "src" / "images" / "{case}"))):
        done = convert_folder(tmp_path / "src", images=[images], name=name, **options)
        assert (done.cases, done.errors) == (("p1", "p2"), ())
        image = read_image(done.folder / "imagesTr" / "p1_0000.nii.gz")
        np.testing.assert_array_equal(image.array[0], ARRAY)
        assert image.geometry.spacing_zyx_mm == (2.0, 1.0, 1.0)
        np.testing.assert_array_equal(read_label(done.folder / "labelsTr" / "p1.nii.gz").array[0], ARRAY > 100)
    written = done.folder / "imagesTr" / "p2_0000.nii.gz"
    before = written.stat().st_ino
    convert_folder(tmp_path / "src", images=[images], name=name, **options)
    assert written.stat().st_ino == before  # current
    shutil.rmtree(tmp_path / "src" / "images" / "p2")
    write_series(tmp_path / "src" / "images" / "p2", ARRAY[:, ::-1])
    os.utime(tmp_path / "src" / "images" / "p2" / "IM0000.dcm", (2e9, 2e9))
    convert_folder(tmp_path / "src", images=[images], name=name, **options)
    np.testing.assert_array_equal(read_image(written).array[0], ARRAY[:, ::-1])


def test_a_pattern_may_name_multi_frame_files(tmp_path):
    places = [(0, 0, 2.0 * k) for k in range(len(ARRAY))]
    write_enhanced(tmp_path / "src" / "p1" / "scan.dcm", ARRAY, places)
    write_label(tmp_path / "src" / "p1" / "seg.nii.gz")
    options = {"channel": ["MR"], "label": {"a": 1}, "workspace": tmp_path / "w", "processes": 1}
    done = convert_folder(tmp_path / "src", images=["{case}/scan.dcm"], labels="{case}/seg.nii.gz", **options)
    assert (done.cases, done.errors) == (("p1",), ())
    np.testing.assert_array_equal(read_image(done.folder / "imagesTr" / "p1_0000.nii.gz").array[0], ARRAY)


def test_names_that_differ_in_capitals_only_are_two_cases(tmp_path):
    touch(tmp_path, "images/a.nii.gz", "images/A.nii.gz")
    if len(list((tmp_path / "images").iterdir())) == 1:
        pytest.skip("this file system has one file for both names")
    assert set(Pattern(tmp_path, "images").files()) == {"a", "A"}


def test_series_of_several_channels(tmp_path):
    for sequence, factor in (("T1", 1), ("T2", 2)):
        write_series(tmp_path / "src" / "p1" / sequence, factor * ARRAY)
    write_label(tmp_path / "src" / "p1" / "seg.nii.gz")
    done = convert_folder(
        tmp_path / "src",
        images=["{case}/T1", "{case}/T2"],
        labels="{case}/seg.nii.gz",
        channel=["T1", "T2"],
        label={"a": 1},
        workspace=tmp_path / "w",
        processes=1,
    )
    assert done.errors == ()
    for i in range(2):
        np.testing.assert_array_equal(
            read_image(done.folder / "imagesTr" / f"p1_000{i}.nii.gz").array[0], (i + 1) * ARRAY
        )


def passed_over(root, *texts):
    patterns = [Pattern(root, text) for text in texts]
    used = {path for pattern in patterns for paths in pattern.files().values() for path in paths}
    return not_used(patterns, used, root.parent / "workspace")


def test_other_files_of_a_case_were_not_asked_for_but_a_case_without_a_file_is_named(tmp_path):
    touch(tmp_path, *(f"{c}/{c}_{kind}.nii.gz" for c in ("p1", "p2") for kind in ("t1", "t2", "seg")))
    touch(tmp_path, "p1/func/bold.nii.gz", "p3/p3_T1.nii.gz", "p4/deep/p4_t1.nii.gz", "notes/readme.txt")
    found = passed_over(tmp_path, "{case}/{case}_t1.nii.gz", "{case}/{case}_seg.nii.gz")
    assert found.keys() == {"p3", "p4/deep"}
    assert "holds p3_T1.nii.gz, which does not match '{case}/{case}_t1.nii.gz' nor" in found["p3"]


def test_bids_like_folders(tmp_path):
    touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "sub-01/func/sub-01_bold.nii.gz", "derivatives/other/x.nii.gz")
    touch(tmp_path, "derivatives/masks/sub-01_mask.nii.gz", "sub-02/func/sub-02_bold.nii.gz")
    found = passed_over(tmp_path, "sub-{case}/anat/sub-{case}_T1w.nii.gz", "derivatives/masks/sub-{case}_mask.nii.gz")
    assert found.keys() == {"sub-02/func"}


def test_names_that_match_but_for_capitals_or_ending_are_named(tmp_path):
    touch(tmp_path, "i/a_0000.nii.gz", "i/a_0001.nii.gz", "i/b_0000.NII.GZ", "i/c_0000.nii", "i/D_0000.nii.gz")
    assert passed_over(tmp_path, "i/{case}_0000.nii.gz").keys() == {"i/b_0000.NII.GZ", "i/c_0000.nii"}


@pytest.mark.parametrize(
    ("pattern", "broken"),
    [("{case}/t1.nii.gz", "p2"), ("{case}/scan/t1.nii.gz", "p2/scan"), ("site*/{case}.nii.gz", "site2")],
)
def test_links_to_nothing_in_place_of_folders_are_named(tmp_path, pattern, broken):
    first = pattern.replace("{case}", "p1").replace("*", "1")
    touch(tmp_path, first, "notes/a.txt")
    (tmp_path / broken).parent.mkdir(exist_ok=True)
    (tmp_path / broken).symlink_to("nowhere")
    found = passed_over(tmp_path, pattern)
    assert len(found) == 1
    ((name, reason),) = found.items()
    assert broken.startswith(name)
    assert "is a link to something that is not there" in reason


def test_a_path_that_ends_in_the_case_is_the_folder(tmp_path):
    touch(tmp_path, "images/a.nii.gz", "images/deep/b.nii.gz", "images/c.mgz")
    assert passed_over(tmp_path, "images/{case}").keys() == passed_over(tmp_path, "images").keys()


NAMES = st.sampled_from(["a", "b", "c", "a_0000", "x1", "._a", "README"])
ENDINGS = st.sampled_from([".nii.gz", ".nii", ".NII.GZ", ".mha", ".txt", ".json", ".png", ".mgz", ".dcm", ""])
FOLDERS = st.sampled_from(["images", "labels", "images/deep", "labels/more/deep", "images/__MACOSX"])
FILES = st.sets(st.tuples(FOLDERS, NAMES, ENDINGS), max_size=12)


def does_not_count(path):
    """Written anew: hidden, of the system, or no image."""
    endings = ("*.nii.gz", "*.nii", "*.mha", "*.png", "*.mgz", "*.dcm")
    is_image = any(fnmatchcase(path.name.lower(), ending) for ending in endings)
    return path.name.startswith(".") or "__MACOSX" in path.parts or not is_image


@settings(max_examples=60, deadline=None)
@given(FILES)
def test_every_file_is_used_named_or_does_not_count(files):
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        touch(root, "images/case.nii.gz", "labels/case.nii.gz", *(f"{folder}/{n}{e}" for folder, n, e in files))
        layout = Layout(["images"], "labels")
        source = find_cases(root, layout, skip_unreadable=True, workspace=root / "w")
        used = {file for case in source.cases for file in case.files}
        for path in (path for path in root.rglob("*") if path.is_file()):
            relative = path.relative_to(root)
            above = {parent.as_posix() for parent in (relative, *relative.parents)}
            case = path.name.split(".")[0]  # a case without a partner is named itself
            assert path in used or above & source.left_out.keys() or case in source.left_out or does_not_count(relative)
            assert not (path in used and (above & source.left_out.keys() or case in source.left_out))


@pytest.mark.parametrize(
    ("folder", "name", "instead"),
    [
        ("labels", "{}_mask", "labels/{case}_mask.*"),
        ("labels", "gt-{}_seg", "labels/gt-{case}_seg.*"),
        ("images", "{}_0000", "images/{case}_0000.*"),
    ],
)
def test_the_path_that_pairs_names_with_a_part_more_is_named(tmp_path, capsys, folder, name, instead):
    root = tmp_path / "src"
    make_source(root)
    for path in sorted((root / folder).iterdir()):
        path.rename(path.with_name(f"{name.format(path.name.removesuffix('.nii.gz'))}.nii.gz"))
    assert convert(root, "--label", "a=1") == 2
    assert f"give the path {instead!r} in place of this folder" in capsys.readouterr().err
    assert convert(root, "--label", "a=1", **{folder: instead}) == 0  # the repair works
    assert files_in(tmp_path / "w/raw/Made")["labelsTr"] == ["c0", "c1", "c2", "c3"]


@pytest.mark.parametrize(("image", "label"), [("{} PET", "{} GTV"), ("PET_0{}", "gt_0{}"), ("a{}0_ct", "b{}0_seg")])
def test_the_paths_that_pair_names_with_a_part_more_on_both_sides_are_named(tmp_path, capsys, image, label):
    root = tmp_path / "src"
    make_source(root)
    for folder, name in (("images", image), ("labels", label)):
        for path in sorted((root / folder).iterdir()):
            path.rename(path.with_name(f"{name.format(path.name.removesuffix('.nii.gz'))}.nii.gz"))
    assert convert(root, "--label", "a=1") == 2
    found = re.search("give the paths '(.*)' and '(.*)' in place of these folders", capsys.readouterr().err)
    assert found
    assert convert(root, "--label", "a=1", images=found[1], labels=found[2]) == 0  # the repair works
    assert len(files_in(tmp_path / "w/raw/Made")["labelsTr"]) == 4
