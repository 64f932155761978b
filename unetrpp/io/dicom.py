"""Reading one DICOM series from a folder; series that would give a wrong grid are refused."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from unetrpp.core.errors import UserError

POSITION, ORIENTATION = "0020|0032", "0020|0037"
EVEN = 0.01  # by this share of the typical distance the distances of slices may differ
TILT_DEGREES = 0.1  # allowed between the direction of the stack and the normal of the slices


def read_series(folder: Path) -> sitk.Image:
    """Read the only series of a folder, slices in order of position.

    Raises:
        UserError: no series or several, a slice without position, missing or unevenly spaced slices, or a gantry tilt.
    """
    files = series_files(folder)
    if len(files) > 1:
        _require_even(folder, *_placements(folder, files))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    return reader.Execute()


def series_files(folder: Path) -> tuple[str, ...]:
    """The files of the only series of a folder, in the order of their slices.

    Raises:
        UserError: no series or several.
    """
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        found = "no DICOM series" if not series else f"{len(series)} DICOM series mixed"
        raise UserError(f"{folder.name} holds {found}; give a folder with exactly one")
    return tuple(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0]))


def is_series(folder: Path) -> bool:
    """Whether a folder holds a DICOM file, by its first 132 bytes."""
    return folder.is_dir() and any(path.is_file() and _is_dicom(path) for path in sorted(folder.iterdir()))


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _placements(folder: Path, files: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n, 3) in mm in file order, and the normal of the slices."""
    positions, orientations = [], []
    for file in files:
        reader = sitk.ImageFileReader()
        reader.SetFileName(file)
        reader.ReadImageInformation()
        if not (reader.HasMetaDataKey(POSITION) and reader.HasMetaDataKey(ORIENTATION)):
            raise UserError(f"{folder.name}: {Path(file).name} has no position or orientation; export the series again")
        positions.append(_numbers(reader.GetMetaData(POSITION)))
        orientations.append(_numbers(reader.GetMetaData(ORIENTATION)))
    if np.ptp(orientations, axis=0).max() > 1e-3:
        raise UserError(f"{folder.name} mixes slices of different orientation; give a folder with exactly one stack")
    return np.array(positions), np.cross(orientations[0][:3], orientations[0][3:])


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split("\\")]


def _require_even(folder: Path, positions: np.ndarray, normal: np.ndarray) -> None:
    steps = np.diff(positions, axis=0)
    distances = steps @ normal
    typical = float(np.median(np.abs(distances)))
    if typical == 0 or np.abs(np.abs(distances) - typical).max() > EVEN * typical:
        span = f"{np.abs(distances).min():.4g} to {np.abs(distances).max():.4g} mm"
        raise UserError(
            f"{folder.name} has missing or uneven slices (distances {span}); complete or resample the series"
        )
    cosine = np.abs(distances) / np.linalg.norm(steps, axis=1)
    tilt = float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).max())
    if tilt > TILT_DEGREES:
        raise UserError(
            f"{folder.name} was acquired with a gantry tilt of {tilt:.1f} degrees; resample it to a grid with right angles"
        )
