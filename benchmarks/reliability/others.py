"""Readers other than the product's: each gives voxels (C, Z, Y, X) and where they lie, with nothing from unetrpp.

Where they lie is a 4 x 4 matrix from voxels (x, y, z) to LPS mm, or None where a reader does not tell.
"""

import gzip
import io
import math
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import SimpleITK as sitk

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Answer = tuple[np.ndarray, np.ndarray | None]
MM = {1: 1e3, 3: 1e-3}  # xyzt_units of NIfTI that are not mm
LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
METAIMAGE = {"MET_SHORT": "i2", "MET_USHORT": "u2", "MET_UCHAR": "u1", "MET_CHAR": "i1", "MET_INT": "i4"}  # fmt: skip
NRRD = {"short": "i2", "ushort": "u2", "unsigned short": "u2", "uchar": "u1", "int": "i4", "uint": "u4", "float": "f4"}


def itk(path: Path) -> Answer:
    """ITK by SimpleITK: voxels, spacing, position."""
    return _of_itk(sitk.ReadImage(str(path)))


def itk_nifti(path: Path) -> Answer:
    """ITK by SimpleITK, except where it leaves nifti1.h's rules.

    Where both codes are 0, ITK takes the axes for LPS, as ANALYZE's, and its spacing is laid along nifti1.h's axes. It
    passes over a scale factor below 2e-16, and may take the qform where the sform differs: then nibabel's answer counts.
    """
    import nibabel as nib

    loaded = nib.load(path)
    assert isinstance(loaded, nib.Nifti1Pair)
    header = loaded.header  # without the scale factor, which nibabel takes out of it
    raw = (gzip.open if path.suffix == ".gz" else open)(path, "rb").read(116)
    array, matrix = itk(path)
    if 0 < abs(struct.unpack_from(header.endianness + "f", raw, 112)[0]) < np.finfo(float).eps:
        raise ValueError("ITK passes over the scale factor")
    if not header["sform_code"] and not header["qform_code"]:
        return array, LPS_OF_RAS @ matrix
    if header["sform_code"] and header["qform_code"]:
        scale = MM.get(int(header["xyzt_units"]) & 7, 1.0)
        sform = np.diag([scale, scale, scale, 1]) @ LPS_OF_RAS @ header.get_sform()
        if not np.allclose(sform, matrix, rtol=1e-5, atol=1e-4):
            raise ValueError("ITK took the qform")
    return array, matrix


def itk_metaimage(path: Path) -> Answer:
    """ITK by SimpleITK, which gives what lay in memory for compressed voxels without their size."""
    head = path.read_bytes().partition(b"ElementDataFile")[0]
    if b"CompressedData = True" in head and b"\nCompressedDataSize = " not in head:
        raise ValueError("ITK cannot inflate without CompressedDataSize")
    return itk(path)


def itk_pixels(path: Path) -> Answer:
    """ITK by SimpleITK, for pictures, whose spacing there is a printer's."""
    image = sitk.ReadImage(str(path))
    return _of_itk(image)[0], None


def _of_itk(image: sitk.Image) -> tuple[np.ndarray, np.ndarray]:
    n, size = image.GetDimension(), image.GetSize()
    x, y, z, t = (*size, 1, 1)[:4]
    array = sitk.GetArrayFromImage(image).reshape(t, z, y, x, image.GetNumberOfComponentsPerPixel())
    array = np.moveaxis(array, -1, 1).reshape(-1, z, y, x)
    matrix = np.eye(4)
    columns = np.array(image.GetDirection()).reshape(n, n) * np.array(image.GetSpacing())
    k = min(n, 3)
    matrix[:k, :k], matrix[:k, 3] = columns[:k, :k], image.GetOrigin()[:k]
    return array, matrix


def nibabel(path: Path) -> Answer:
    """nibabel with its own voxels: shape, scaling, affine.

    Where both codes are 0, by nifti1.h's method 1; where the sform has no right angles, by the qform, as ITK does.
    """
    import nibabel as nib

    image = nib.load(path)
    assert isinstance(image, nib.Nifti1Pair)
    array = np.asarray(image.dataobj)
    if array.dtype.names:
        array = np.stack([array[name] for name in array.dtype.names], -1)
    array = array.reshape(*(*array.shape, 1, 1)[:3], -1)
    header, matrix = image.header, image.affine
    scale = MM.get(int(header["xyzt_units"]) & 7, 1.0)
    if not header["sform_code"] and not header["qform_code"]:
        matrix = np.diag([*header["pixdim"][1:4], 1.0])
    elif header["sform_code"] and header["qform_code"] and not _has_right_angles(matrix):
        matrix = image.get_qform()
    return np.transpose(array, (3, 2, 1, 0)), LPS_OF_RAS @ np.diag([scale, scale, scale, 1]) @ matrix


def _has_right_angles(matrix: np.ndarray) -> bool:
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.isfinite(matrix).all() or not lengths.all():
        return False
    cosines = matrix[:3, :3] / lengths
    return bool(np.abs(cosines.T @ cosines - np.eye(3)).max() < 1e-3)


def nifti2(path: Path) -> Answer:
    """A plain parser of NIfTI-2, for files as the campaign begins with."""
    raw = path.read_bytes()
    order = "<" if raw[:4] == struct.pack("<i", 540) else ">"

    def field(form: str, at: int) -> tuple[Any, ...]:
        return struct.unpack_from(order + form, raw, at)

    (kind,), (rank, *size) = field("h", 12), field("8q", 16)
    (start,), (slope, intercept), (sform,) = field("q", 168), field("2d", 176), field("i", 348)
    if raw[4:8] != b"n+2\0" or kind != 4 or rank != 3 or sform < 1 or field("i", 500)[0] & 7 not in (0, 2):
        raise ValueError("of another kind")
    array = np.frombuffer(raw, f"{order}i2", math.prod(size[:3]), start).reshape(1, *size[2::-1])
    if slope and math.isfinite(slope):
        array = array * slope + intercept
    matrix = np.array([*field("12d", 400), 0, 0, 0, 1]).reshape(4, 4)
    if not _has_right_angles(matrix):
        raise ValueError("of another kind")
    return array, LPS_OF_RAS @ matrix


def metaimage(path: Path) -> Answer:
    """A plain parser of MetaImage's text, for files as the campaign begins with."""
    head, start, fields = path.read_bytes(), 0, {}
    while "ElementDataFile" not in fields:
        end = head.index(b"\n", start)
        key, value = head[start:end].decode("ascii").split("=")
        fields[key.strip()], start = value.strip(), end + 1
    size = [int(n) for n in fields["DimSize"].split()]
    place = fields["ElementDataFile"]
    content = head[start:] if place == "LOCAL" else (path.parent / place).read_bytes()
    if fields.get("CompressedData", "False") == "True":
        held = fields.get("CompressedDataSize")
        content = zlib.decompress(content[: None if held is None else int(held)])
    order = ">" if fields.get("BinaryDataByteOrderMSB", "False") == "True" else "<"
    array = np.frombuffer(content, order + METAIMAGE[fields["ElementType"]], int(np.prod(size)))
    matrix = np.eye(4)
    cosines = np.array(fields["TransformMatrix"].split(), float).reshape(3, 3)  # one axis a row
    matrix[:3, :3] = cosines.T * np.array(fields["ElementSpacing"].split(), float)
    matrix[:3, 3] = np.array(fields["Offset"].split(), float)
    return array.reshape(1, *size[::-1]), matrix


def nrrd(path: Path) -> Answer:
    """A plain parser of NRRD's text, for files as the campaign begins with."""
    content = path.read_bytes()
    head, _, data = content.partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in head.decode("ascii").splitlines()[1:] if line[0] != "#")
    size = [int(n) for n in fields["sizes"].split()]
    if fields["encoding"] == "gzip":
        data = gzip.decompress(data)
    elif fields["encoding"] != "raw":
        raise ValueError(fields["encoding"])
    order = ">" if fields.get("endian") == "big" else "<"
    array = np.frombuffer(data, order + NRRD[fields["type"]], int(np.prod(size)))
    vectors = re.findall(r"\(([^)]*)\)", fields["space directions"])
    to_lps = {"left-posterior-superior": (1, 1, 1), "right-anterior-superior": (-1, -1, 1)}[fields["space"]]
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([v.split(",") for v in vectors], float).T
    matrix[:3, 3] = np.array(fields["space origin"].strip("()").split(","), float)
    matrix[:3] *= np.array(to_lps)[:, None]
    return array.reshape(1, *size[::-1]), matrix


def pillow(path: Path) -> Answer:
    """Pillow: pixels of all pages; OME's spacing by the text that it finds in the first page."""
    from PIL import Image, ImageSequence

    with Image.open(path) as image:
        text = image.tag_v2.get(270, "") if hasattr(image, "tag_v2") else ""
        pages = [np.atleast_3d(np.asarray(page)) for page in ImageSequence.Iterator(image)]
    array = np.moveaxis(np.stack(pages), -1, 0)
    return array, _ome(text) if text.startswith("<?xml") else np.eye(4)


def _ome(text: str) -> np.ndarray:
    pixels = next(e for e in ElementTree.fromstring(text.encode()).iter() if e.tag.endswith("}Pixels"))
    if not all(f"PhysicalSize{axis}" in pixels.attrib for axis in "XYZ"):
        return np.eye(4)  # the product's rule: all three or none
    sizes = [float(pixels.attrib[f"PhysicalSize{axis}"]) for axis in "XYZ"]
    units = [pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in "XYZ"]
    return np.diag([*(size * {"µm": 1e-3, "mm": 1.0}[unit] for size, unit in zip(sizes, units, strict=True)), 1.0])


def gdcm(path: Path) -> Answer:
    """GDCM by SimpleITK, every file by itself, stacked here along the normal."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    slices = [_of_itk(sitk.ReadImage(str(file))) for file in files]
    matrix = slices[0][1].copy()
    normal = np.cross(matrix[:3, 0], matrix[:3, 1])
    slices.sort(key=lambda one: float(one[1][:3, 3] @ normal))
    matrix[:3, 3] = slices[0][1][:3, 3]
    if len(slices) > 1:
        matrix[:3, 2] = (slices[-1][1][:3, 3] - matrix[:3, 3]) / (len(slices) - 1)
    return np.concatenate([array for array, _ in slices], axis=1), matrix


def highdicom(path: Path) -> Answer:
    """highdicom's volume of a multi-frame image, each frame with the rescale of its own."""
    import highdicom as hd

    volume = hd.imread(path).get_volume(apply_modality_transform=True, apply_presentation_lut=False)
    array, affine = volume.array, volume.affine  # of (slice, row, column)
    if np.linalg.det(affine[:3, [2, 1, 0]]) < 0:
        affine = affine.copy()
        affine[:3, 3] += affine[:3, 0] * (len(array) - 1)
        affine[:3, 0] *= -1
        array = array[::-1]
    matrix = affine[:, [2, 1, 0, 3]]
    return array[None], matrix


def frame_by_frame(path: Path) -> Answer:
    """pydicom's pixel_array, each frame with its own rescale and position."""
    import pydicom

    dataset = pydicom.dcmread(path)
    shared, found = dataset.SharedFunctionalGroupsSequence[0], []
    for stored, groups in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        rescale = groups.PixelValueTransformationSequence[0]
        values = stored * float(rescale.RescaleSlope) + float(rescale.RescaleIntercept)
        found.append((values, np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)))
    place = shared.PixelMeasuresSequence[0]
    place.ImageOrientationPatient = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    place.ImagePositionPatient = [0, 0, 0]
    matrix = _matrix(place)
    return _stacked(found, matrix)


def jpeg2000(path: Path) -> Answer:
    """Pillow's OpenJPEG decoder, with pydicom's headers."""
    from PIL import Image

    return _decoded(path, lambda dataset: np.asarray(Image.open(io.BytesIO(_frame(dataset)))))


def file_by_file(path: Path) -> Answer:
    """pydicom's pixel_array, each file with its own rescale and position."""
    return _decoded(path, _plain_pixels)


def _plain_pixels(dataset: "Dataset") -> np.ndarray:
    """Without file meta in the byte order in which pydicom found the elements."""
    from pydicom.uid import ExplicitVRLittleEndian

    if "TransferSyntaxUID" not in dataset.file_meta and dataset.original_encoding == (False, True):
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pixels: np.ndarray = dataset.pixel_array
    return pixels


def run_length(path: Path) -> Answer:
    """A plain decoder of run lengths, with pydicom's headers."""
    return _decoded(path, lambda dataset: _unrolled(_frame(dataset), dataset.Rows, dataset.Columns))


def _frame(dataset: "Dataset") -> bytes:
    """The compressed bytes of the only frame."""
    from pydicom.encaps import generate_frames

    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    return frame


def _unrolled(frame: bytes, rows: int, columns: int) -> np.ndarray:
    """PS3.5 annex G, for 16 bits: the upper bytes of all pixels, then the lower ones."""
    count, *starts = struct.unpack("<16L", frame[:64])
    if count != 2:
        raise ValueError(count)
    planes = []
    for k in range(2):
        at, end, out = starts[k], starts[k + 1] if k == 0 else len(frame), bytearray()
        while at < end:
            n = frame[at]
            if n < 128:
                out += frame[at + 1 : min(at + n + 2, end)]
            elif n > 128:
                out += frame[at + 1 : at + 2] * (257 - n)
            at += n + 2 if n < 128 else 2 if n > 128 else 1
        planes.append(np.frombuffer(bytes(out), np.uint8).reshape(rows, columns))
    return planes[0].astype(np.uint16) << 8 | planes[1]


def _decoded(path: Path, decode: Callable[["Dataset"], np.ndarray]) -> Answer:
    import pydicom

    found = []
    for file in path.iterdir():
        dataset = pydicom.dcmread(file)
        stored = decode(dataset).astype(float)
        if dataset.PixelRepresentation or dataset.BitsStored != 16 or dataset.HighBit != 15:
            raise ValueError("of another kind")
        values = stored * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        matrix = _matrix(dataset)
        found.append((values, matrix[:3, 3]))
    return _stacked(found, matrix)


def _stacked(slices: list[tuple[np.ndarray, np.ndarray]], matrix: np.ndarray) -> Answer:
    """Slices (Y, X) and their positions, in the order along the normal."""
    slices = sorted(slices, key=lambda one: float(one[1] @ matrix[:3, 2]))
    first, last = slices[0][1], slices[-1][1]
    matrix[:3, 2], matrix[:3, 3] = (last - first) / (len(slices) - 1), first
    return np.stack([values for values, _ in slices])[None], matrix


def _matrix(dataset: "Dataset") -> np.ndarray:
    row, column = np.array(dataset.ImageOrientationPatient, float).reshape(2, 3)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1] = row * float(dataset.PixelSpacing[1]), column * float(dataset.PixelSpacing[0])
    matrix[:3, 2] = np.cross(row, column) * (float(dataset.get("SliceThickness") or 1) or 1)
    matrix[:3, 3] = np.array(dataset.ImagePositionPatient, float)
    return matrix
