"""Defects of a folder of images, each of which a command must use, name or refuse, and files that it must not mind."""

import os
import shutil
from pathlib import Path
from unicodedata import normalize

import numpy as np
import SimpleITK as sitk

from tests.helpers.dicom_files import write_series

SLICES = np.random.default_rng(0).integers(0, 100, (3, 8, 8)).astype(np.uint16)
SYSTEM = (".DS_Store", "._a_0000.nii.gz", "Thumbs.db", "desktop.ini", "DICOMDIR")
OTHERS = ("README.md", "LICENSE", "notes.txt", "cases.csv", "a_0000.json")


def add_what_does_not_count(folder: Path) -> None:
    for name in (*SYSTEM, *OTHERS):
        (folder / name).write_bytes(b"not an image\n" * 20)
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "a_0000.nii.gz").write_bytes(b"x")
    (folder / "empty").mkdir()


def _copied(name):
    def make(folder, image):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(image, folder / name)

    return make


def _converted(name):
    return lambda folder, image: sitk.WriteImage(sitk.ReadImage(str(image)), str(folder / name))


def _linked(name, target):
    return lambda folder, image: (folder / name).symlink_to(target)


def _written(name, content):
    return lambda folder, image: (folder / name).write_bytes(content)


def _link_to_folder(folder, image):
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    shutil.copyfile(image, elsewhere / "c_0000.nii.gz")
    (folder / "more").symlink_to("../elsewhere")


def _stray_slice(folder, image):
    write_series(folder, SLICES[:1])


def _four_channels(folder, image):
    volume = sitk.ReadImage(str(image))
    sitk.WriteImage(sitk.JoinSeries([volume, volume]), str(folder / "c_0000.nii.gz"))


def _not_utf8(folder, image):
    shutil.copyfile(image, os.fsencode(folder) + b"/M\xfcller_0000.nii.gz")


def _two_forms(folder, image):
    for form in ("NFC", "NFD"):
        shutil.copyfile(image, folder / f"{normalize(form, 'é')}_0000.nii.gz")


# kind -> what makes it, and what must be named
DEFECTS = {
    "no channel number": (_copied("c.nii.gz"), "c"),
    "a channel too many": (_copied("a_0001.nii.gz"), "a_0001"),
    "capital ending": (_copied("c_0000.NII.GZ"), "c_0000"),
    "another ending": (_converted("c_0000.nii"), "c_0000"),
    "another format": (_converted("c_0000.mha"), "c_0000"),
    "a link to nothing": (_linked("c_0000.nii.gz", "../.git/annex/objects/1"), "c"),
    "a folder that is a link to nothing": (_linked("more", "nowhere"), "more"),
    "a folder that is a link": (_link_to_folder, "more"),
    "deeper images": (_copied("more/c_0000.nii.gz"), "more"),
    "a stray slice": (_stray_slice, "IM0000.dcm"),
    "a series": (lambda folder, image: write_series(folder / "series", SLICES), "series"),
    "a deeper series": (lambda folder, image: write_series(folder / "more" / "series", SLICES), "more"),
    "a format that is not read": (_written("c_0000.mgz", b"x" * 200), "c_0000.mgz"),
    "compressed otherwise": (_written("c_0000.nii.bz2", b"BZh" + b"x" * 200), "c_0000.nii.bz2"),
    "an unfinished download": (_written("c_0000.nii.gz.part", b"x" * 200), "c_0000.nii.gz.part"),
    "an empty file": (_written("c_0000.nii.gz", b""), "c"),
    "no image": (_written("c_0000.nii.gz", b"x" * 200), "c"),
    "too many channels in a file": (_four_channels, "c"),
    "a name that is not UTF-8": (_not_utf8, "M\\xfcller"),
    "one name in two Unicode forms": (_two_forms, "é"),
}
