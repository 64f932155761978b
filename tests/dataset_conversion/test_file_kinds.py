"""Files that hospitals and labs have, converted: voxels in a second file, gray BMP, names of other systems, stand-ins."""

import os
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import Case
from unetrpp.dataset.verification import inputs_digest
from unetrpp.dataset_conversion.folder import convert_folder
from unetrpp.io.images import read_image, read_label


def make_case(seed):
    image = np.random.default_rng(seed).integers(0, 200, (6, 8, 9)).astype(np.int16)
    return image, (image > 150).astype(np.uint8)


def convert(source, workspace, channel="MR"):
    return convert_folder(
        source,
        images=["images"],
        labels="labels",
        channel=[channel],
        label={"a": 1},
        name="Made",
        workspace=workspace,
        processes=1,
    )


@pytest.mark.parametrize(("written", "renamed"), [(".mhd", ".mha"), (".nhdr", ".nrrd"), (".mhd", ".mhd")])
def test_voxels_in_a_second_file_are_converted_with_their_header(tmp_path, written, renamed):
    source = tmp_path / "src"
    for i in range(2):
        for part, array in zip(("images", "labels"), make_case(i), strict=True):
            (source / part).mkdir(parents=True, exist_ok=True)
            path = source / part / f"c{i}{written}"
            sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
            path.rename(path.with_suffix(renamed))
    done = convert(source, tmp_path / "w")
    assert not done.errors
    ending = ".nii.gz" if renamed == ".mhd" else renamed
    for i in range(2):
        image, label = make_case(i)
        np.testing.assert_array_equal(read_image(done.folder / "imagesTr" / f"c{i}_0000{ending}").array[0], image)
        np.testing.assert_array_equal(read_label(done.folder / "labelsTr" / f"c{i}{ending}").array[0], label)


def test_a_changed_second_file_is_another_input(tmp_path):
    for name, array in (("a", make_case(0)[0]), ("b", make_case(1)[0])):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{name}.mhd"))
    path = (tmp_path / "a.mhd").rename(tmp_path / "a.mha")
    before = inputs_digest(Case("a", (path,), None))
    (tmp_path / "b.raw").replace(tmp_path / "a.raw")
    assert inputs_digest(Case("a", (path,), None)) != before


def test_gray_bmp_images_and_labels(tmp_path):
    source = tmp_path / "src"
    for i in range(2):
        image, label = make_case(i)
        for part, array in (("images", image[0].astype(np.uint8)), ("labels", label[0])):
            (source / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(source / part / f"c{i}.bmp")
    done = convert(source, tmp_path / "w", "gray")
    assert not done.errors
    np.testing.assert_array_equal(read_label(done.folder / "labelsTr" / "c1.bmp").array[0, 0], make_case(1)[1][0])


def test_names_of_other_systems(tmp_path):
    """An archive of Windows has latin-1, macOS takes letters and accents apart."""
    source = tmp_path / "src"
    for i, stem in enumerate((b"M\xfcller", b"-dash", "é".encode())):
        for part, array in zip(("images", "labels"), make_case(i), strict=True):
            (source / part).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(source / "plain.nii.gz"))
            name = normalize("NFD", stem.decode()).encode() if part == "labels" and i == 2 else stem
            (source / "plain.nii.gz").rename(source / part / os.fsdecode(name + b".nii.gz"))
    done = convert(source, tmp_path / "w")
    ((case, message),) = [(error.case, error.message) for error in done.errors]
    assert os.fsencode(case) == b"M\xfcller"
    assert message == "the file name M\\xfcller.nii.gz is not UTF-8; rename the files"
    names = sorted(path.name for path in (done.folder / "labelsTr").iterdir())
    assert names == ["-dash.nii.gz", normalize("NFC", "é") + ".nii.gz"]


def make_folder(source, count=3):
    for i in range(count):
        for part, array in zip(("images", "labels"), make_case(i), strict=True):
            (source / part).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(array), str(source / part / f"c{i}.nii.gz"))


def test_a_source_whose_path_is_not_utf_8_is_converted(tmp_path):
    make_folder(tmp_path / "src", 2)
    source = (tmp_path / "src").rename(tmp_path / os.fsdecode(b"f\xfcnf"))
    done = convert(source, tmp_path / "w")
    assert done.cases == ("c0", "c1")
    assert convert(source, tmp_path / "w").cases == done.cases  # its record is recognised


def test_links_to_folders_are_followed(tmp_path):
    make_folder(tmp_path / "real")
    (tmp_path / "src").mkdir()
    for part in ("images", "labels"):
        (tmp_path / "src" / part).symlink_to(tmp_path / "real" / part)
    (tmp_path / "real" / "images" / "back").symlink_to(tmp_path / "src")
    assert convert(tmp_path / "src", tmp_path / "w").cases == ("c0", "c1", "c2")


def test_links_to_nothing_are_named(tmp_path):
    source = tmp_path / "src"
    make_folder(source)
    for part in ("images", "labels"):
        (source / part / "c3.nii.gz").symlink_to("../../.git/annex/objects/3")
    done = convert(source, tmp_path / "w")
    assert done.cases == ("c0", "c1", "c2")
    ((case, message),) = [(error.case, error.message) for error in done.errors]
    assert case == "c3"
    assert message == "c3.nii.gz is a link to a file that is not there; fetch it (such as with git annex get)"


def test_a_folder_that_is_a_link_to_nothing_is_named(tmp_path):
    (tmp_path / "images").symlink_to("nowhere")
    with pytest.raises(UserError, match="images in it is a link to something that is not there"):
        convert(tmp_path, tmp_path / "w")


def test_a_case_named_like_a_pattern_removes_no_file_of_others(tmp_path):
    """A case that fails takes its files away: those of ``c*`` are not those of c0 and c1."""
    source = tmp_path / "src"
    make_folder(source, 2)
    assert not convert(source, tmp_path / "w").errors
    for part in ("images", "labels"):
        (source / part / "c*.nii.gz").write_bytes(b"no image")
    done = convert(source, tmp_path / "w")
    assert [error.case for error in done.errors] == ["c*"]
    written = {path.name for path in (done.folder / "imagesTr").iterdir()}
    assert written == {"c0_0000.nii.gz", "c1_0000.nii.gz"}


def test_a_photograph_that_was_stored_turned_is_left_out_by_name(tmp_path):
    source = tmp_path / "src"
    for i in range(3):
        image, label = make_case(i)
        for part in ("images", "labels"):
            (source / part).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(image[0].astype(np.uint8))
        exif = picture.getexif()
        exif[274] = 3 if i == 0 else 1
        picture.save(source / "images" / f"c{i}.jpg", exif=exif)
        Image.fromarray(label[0]).save(source / "labels" / f"c{i}.png")
    done = convert(source, tmp_path / "w", "gray")
    assert [error.case for error in done.errors] == ["c0"]
    assert "c0.jpg is stored turned or mirrored (EXIF orientation 3)" in done.errors[0].message


def test_jpeg_photographs_with_png_masks_lie_on_one_grid(tmp_path):
    source = tmp_path / "src"
    for i in range(2):
        image, label = make_case(i)
        for part in ("images", "labels"):
            (source / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].astype(np.uint8)).save(source / "images" / f"c{i}.jpg", dpi=(300, 300))
        Image.fromarray(label[0]).save(source / "labels" / f"c{i}.png")
    done = convert(source, tmp_path / "w", "gray")
    assert not done.errors
    image, label = (
        read_image(Path(done.folder) / name).geometry for name in ("imagesTr/c0_0000.png", "labelsTr/c0.png")
    )
    assert image == label
