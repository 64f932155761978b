"""The valid files that the campaign damages, and for each format the readers whose answers count."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import tifffile
from PIL import Image

from benchmarks.reliability import others
from benchmarks.reliability.others import Answer

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

RNG = np.random.default_rng(7)
SHAPE = (5, 6, 7)
VOLUME = RNG.integers(-500, 1500, SHAPE).astype(np.int16)
GRAY = RNG.integers(0, 200, (30, 40)).astype(np.uint8)
GRAY16 = RNG.integers(0, 60000, (30, 40)).astype(np.uint16)
COLOURS = RNG.integers(0, 200, (30, 40, 3)).astype(np.uint8)
SMOOTH = np.linspace(0, 250, 64 * 48).reshape(48, 64).astype(np.uint8)
TURNED = np.array([[0.0, -2, 0, 5], [1, 0, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])  # voxels to RAS mm


@dataclass(frozen=True)
class Format:
    """``write`` puts a valid image under a folder and gives what is read and the files that may be damaged.

    ``header``: bytes that describe the image; ``others``: by their names: the answer of the first one that reads a mutant counts.
    ``levels``: by which two decoders of a lossy image may differ.
    """

    write: Callable[[Path], tuple[Path, list[Path]]]
    header: int
    others: Mapping[str, Callable[[Path], Answer]]
    levels: float = 0.0


def _nifti(name: str, kind: type[nib.Nifti1Pair], order: str = "<") -> Callable[[Path], tuple[Path, list[Path]]]:
    def write(folder: Path) -> tuple[Path, list[Path]]:
        header = kind.header_class(endianness=order)
        header.set_data_dtype(VOLUME.dtype.newbyteorder(order))
        image = kind(VOLUME.T, TURNED, header)
        image.set_sform(TURNED, 1)
        image.set_qform(TURNED, 1)
        nib.save(image, folder / name)
        path = folder / name
        return path, [path, path.with_suffix(".img")] if path.suffix == ".hdr" else [path]

    return write


def _itk(name: str, compressed: bool) -> Callable[[Path], tuple[Path, list[Path]]]:
    def write(folder: Path) -> tuple[Path, list[Path]]:
        image = sitk.GetImageFromArray(VOLUME)
        image.SetSpacing((1, 2, 3))
        image.SetOrigin((4, 5, 6.5))
        image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
        path = folder / name
        sitk.WriteImage(image, str(path), compressed)
        return path, [path, path.with_suffix(".raw")] if path.suffix == ".mhd" else [path]

    return write


def _saved(name: str, save: Callable[[Path], object]) -> Callable[[Path], tuple[Path, list[Path]]]:
    def write(folder: Path) -> tuple[Path, list[Path]]:
        save(folder / name)
        return folder / name, [folder / name]

    return write


def _ome(path: Path) -> None:
    metadata = {"axes": "ZYX"} | {f"PhysicalSize{axis}": size for axis, size in zip("XYZ", (2, 2.5, 3.5), strict=True)}
    units = {f"PhysicalSize{axis}Unit": "mm" for axis in "XYZ"}
    tifffile.imwrite(path, VOLUME, ome=True, photometric="minisblack", compression="zlib", metadata=metadata | units)
    path.write_bytes(re.sub(rb"urn:uuid:[-0-9a-f]{36}", b"urn:uuid:" + b"0" * 36, path.read_bytes()))


def _imagej(path: Path) -> None:
    tifffile.imwrite(path, VOLUME.astype(np.uint16), imagej=True, metadata={"axes": "ZYX"})


def _deflate(path: Path) -> None:
    tifffile.imwrite(path, VOLUME, photometric="minisblack", compression="zlib", metadata=None)


def _series(
    compress: "Callable[[Dataset, np.ndarray], None] | None" = None,
) -> Callable[[Path], tuple[Path, list[Path]]]:
    def write(folder: Path) -> tuple[Path, list[Path]]:
        for k, pixels in enumerate((VOLUME + 500).astype(np.uint16)):
            dataset = _slice(pixels, k)
            if compress is not None:
                compress(dataset, pixels)
            (folder / "series").mkdir(exist_ok=True)
            dataset.save_as(folder / "series" / f"IM{k:04d}.dcm", enforce_file_format=True)
        return folder / "series", sorted((folder / "series").iterdir())

    return write


def _slice(pixels: np.ndarray, k: int) -> "Dataset":
    """A CT slice, 2.5 mm above the one before it."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.9.{k + 1}"
    dataset.Modality, dataset.PatientID, dataset.PatientName = "CT", "p1", "Doe^Jane"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2"
    dataset.FrameOfReferenceUID, dataset.SeriesNumber = "1.2.826.0.1.3680043.8.498.3", 1
    dataset.InstanceNumber, dataset.SliceThickness = k + 1, 2.5
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [-10, 20, 2.5 * k], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing, dataset.RescaleSlope, dataset.RescaleIntercept = [0.7, 0.8], 1, -1000
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def _run_length(dataset: "Dataset", _: np.ndarray) -> None:
    from pydicom.uid import RLELossless

    uid = dataset.SOPInstanceUID
    dataset.compress(RLELossless, generate_instance_uid=False)
    assert dataset.SOPInstanceUID == uid


def _jpeg2000(dataset: "Dataset", pixels: np.ndarray) -> None:
    import io

    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless

    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG2000", no_jp2=True, irreversible=False)
    dataset.PixelData = encapsulate([encoded.getvalue()])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless


def _enhanced(path: Path) -> None:
    """An enhanced MR, each frame with a rescale of its own, in another order than along the normal."""
    from pydicom.dataset import Dataset
    from pydicom.uid import EnhancedMRImageStorage

    pixels = (VOLUME + 500).astype(np.uint16)
    dataset = _slice(pixels[0], 0)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(dataset, keyword)
    del dataset.RescaleSlope, dataset.RescaleIntercept
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = EnhancedMRImageStorage
    dataset.Modality, dataset.NumberOfFrames, dataset.PixelData = "MR", len(pixels), pixels.tobytes()
    dataset.StudyID = dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = ""
    dataset.PatientBirthDate = dataset.PatientSex = dataset.ReferringPhysicianName = ""
    shared = {
        "PlaneOrientationSequence": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        "PixelMeasuresSequence": {"PixelSpacing": [0.7, 0.8], "SliceThickness": 2.5, "SpacingBetweenSlices": 2.5},
    }
    dataset.SharedFunctionalGroupsSequence = [_groups(Dataset, shared)]
    dataset.PerFrameFunctionalGroupsSequence = [
        _groups(
            Dataset,
            {
                "PlanePositionSequence": {"ImagePositionPatient": [-10, 20, 2.5 * place]},
                "FrameContentSequence": {"StackID": "1", "InStackPositionNumber": place + 1},
                "PixelValueTransformationSequence": {
                    "RescaleSlope": 1 + k / 4,
                    "RescaleIntercept": k,
                    "RescaleType": "US",
                },
            },
        )
        for k, place in enumerate((2, 0, 4, 1, 3))
    ]
    dataset.save_as(path, enforce_file_format=True)


def _groups(kind: "type[Dataset]", macros: dict[str, dict[str, object]]) -> "Dataset":
    dataset = kind()
    for name, values in macros.items():
        item = kind()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(dataset, name, [item])
    return dataset


NIFTI = {"SimpleITK": others.itk_nifti, "nibabel": others.nibabel}
NIFTI2 = {"a plain parser": others.nifti2, "nibabel": others.nibabel}
NRRD = {"a plain parser": others.nrrd, "SimpleITK": others.itk}
METAIMAGE = {"a plain parser": others.metaimage, "SimpleITK": others.itk_metaimage}
PICTURE = {"SimpleITK": others.itk_pixels}
TIFF = {"Pillow": others.pillow, "SimpleITK": others.itk_pixels}
SERIES = {"GDCM": others.gdcm, "pydicom, file by file": others.file_by_file}
ENHANCED = {"highdicom": others.highdicom, "pydicom, frame by frame": others.frame_by_frame}

FORMATS = {
    "NIfTI .nii": Format(_nifti("a.nii", nib.Nifti1Image), 352, NIFTI),
    "NIfTI .nii.gz": Format(_nifti("a.nii.gz", nib.Nifti1Image), 40, NIFTI),
    "NIfTI-2 .nii, big-endian": Format(_nifti("a.nii", nib.Nifti2Image, ">"), 544, NIFTI2),
    "NIfTI .hdr + .img": Format(_nifti("a.hdr", nib.Nifti1Pair), 348, NIFTI),
    "NRRD gzip": Format(_itk("a.nrrd", True), 400, NRRD),
    "NRRD raw": Format(_itk("a.nrrd", False), 400, NRRD),
    "MHA compressed": Format(_itk("a.mha", True), 400, METAIMAGE),
    "MHA raw": Format(_itk("a.mha", False), 400, METAIMAGE),
    "MHD + raw": Format(_itk("a.mhd", False), 400, METAIMAGE),
    "TIFF deflate": Format(_saved("a.tif", _deflate), 300, TIFF),
    "TIFF LZW": Format(_saved("a.tif", lambda p: Image.fromarray(GRAY).save(p, compression="tiff_lzw")), 200, TIFF),
    "TIFF ImageJ": Format(_saved("a.tif", _imagej), 400, TIFF),
    "TIFF OME": Format(_saved("a.ome.tif", _ome), 1200, TIFF),
    "PNG colours": Format(_saved("a.png", lambda p: Image.fromarray(COLOURS).save(p)), 60, PICTURE),
    "PNG 16 bits": Format(_saved("a.png", lambda p: Image.fromarray(GRAY16).save(p)), 60, PICTURE),
    "JPEG": Format(_saved("a.jpg", lambda p: Image.fromarray(SMOOTH).save(p, quality=95)), 400, PICTURE, 2.0),
    "BMP": Format(_saved("a.bmp", lambda p: Image.fromarray(COLOURS).save(p)), 54, PICTURE),
    "DICOM series": Format(_series(), 1200, SERIES),
    "DICOM enhanced": Format(_saved("a.dcm", _enhanced), 4000, ENHANCED),
    "DICOM RLE": Format(_series(_run_length), 1200, {"a plain decoder": others.run_length}),
    "DICOM JPEG 2000": Format(_series(_jpeg2000), 1200, {"Pillow's OpenJPEG": others.jpeg2000}),
}
