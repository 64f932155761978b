"""Writing a segmentation as a DICOM SEG object that refers to its source slices. Needs the extra ``dicom``."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from unetrpp import __version__
from unetrpp.core.errors import UserError
from unetrpp.core.files import write_atomically
from unetrpp.io.dicom_text import UTF_8, long_string, use_unicode

TISSUE = ("85756007", "SCT", "Tissue")  # SNOMED CT's widest term, because label names have no codes
SERIES_NUMBER = 9000  # above those of scanners


def require_dicom_seg() -> None:
    """Check that DICOM SEG can be written.

    Raises:
        UserError: highdicom is not installed.
    """
    if importlib.util.find_spec("highdicom") is None:
        raise UserError('DICOM SEG needs the package highdicom; pip install "unetrpp[dicom]"')


def write_dicom_seg(
    path: Path, array: np.ndarray, segments: Mapping[str, tuple[int, ...]], *, series: Path, note: str
) -> None:
    """Write one binary segment per name, on the slices of ``series``.

    Args:
        array: label values (Z, Y, X) on the grid of ``readers.dicom.read(series)``.
        segments: name -> the values of ``array`` in the segment (``LabelScheme.segments``).
        series: the folder of the source series, or its multi-frame file.
        note: what made the segmentation; it becomes the algorithm's name.

    Raises:
        UserError: the series lacks tags that the standard requires of a source image, such as its patient or its study.
    """
    import highdicom
    from pydicom import dcmread
    from pydicom.sr.codedict import codes

    from unetrpp.io.readers.dicom import pydicom_warns_the_log, source_slices

    with pydicom_warns_the_log(series):
        slices = source_slices(series)
        files = {file: number for number, file in enumerate(dict.fromkeys(file for file, _ in slices))}
        sources = [dcmread(file, stop_before_pixels=True) for file in files]
        use_unicode(sources[0])
        # highdicom takes the planes in the order of the frames of a multi-frame file.
        array = array[sorted(range(len(slices)), key=lambda z: (files[slices[z][0]], slices[z][1]))]
        name = long_string(note)
        tissue = highdicom.sr.CodedConcept(*TISSUE)
        algorithm = highdicom.AlgorithmIdentificationSequence(name, codes.cid7162.ArtificialIntelligence, __version__)
        descriptions = [
            highdicom.seg.SegmentDescription(number, long_string(label), tissue, tissue, "AUTOMATIC", algorithm)
            for number, label in enumerate(segments, start=1)
        ]
        try:
            segmentation = highdicom.seg.Segmentation(
                source_images=sources,
                pixel_array=_segment_numbers(array, segments),
                segmentation_type="BINARY",
                segment_descriptions=descriptions,
                series_instance_uid=highdicom.UID(),
                series_number=SERIES_NUMBER,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer="unetrpp",
                manufacturer_model_name=name,
                software_versions=__version__,
                device_serial_number="none",
                series_description=long_string(f"Segmentation for research use by {note}"),
            )
        except (AttributeError, KeyError, ValueError) as error:
            raise UserError(
                f"a DICOM SEG cannot refer to {series.name} ({error}); export the series again with all its tags"
            ) from error
        segmentation.SpecificCharacterSet = UTF_8  # for label names in any language
        write_atomically(path, lambda temporary: segmentation.save_as(temporary))


def _segment_numbers(array: np.ndarray, segments: Mapping[str, tuple[int, ...]]) -> np.ndarray:
    """Segment numbers from 1 on (Z, Y, X) or, where segments overlap, one mask per segment (Z, Y, X, S)."""
    values = [value for members in segments.values() for value in members]
    if len(set(values)) < len(values):
        return np.stack([np.isin(array, members) for members in segments.values()], axis=-1)
    numbers = np.zeros(array.shape, np.min_scalar_type(len(segments)))
    for number, members in enumerate(segments.values(), start=1):
        numbers[np.isin(array, members)] = number
    return numbers
