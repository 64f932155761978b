"""One uploaded image through a model: its segmentation, its record as `unetrpp_predict` keeps it, and its page."""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unetrpp import __version__
from unetrpp.core.errors import UserError
from unetrpp.core.files import Record
from unetrpp.core.text import format_bytes
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.expected_dice import ExpectedDice
from unetrpp.inference.folder import run_folder
from unetrpp.inference.inputs import case_id, find_cases
from unetrpp.inference.options import InferenceOptions, OutputOptions
from unetrpp.inference.record import Settings, earlier_runs
from unetrpp.io.formats import reader_of
from unetrpp.io.geometry import Geometry
from unetrpp.preprocessing.grid import network_shape
from unetrpp.report.prediction_report import prediction_page
from unetrpp.service.refusals import Refusal

CASE = "image"  # the case's name on disk and in logs, in place of the user's file name, which may name a patient
BYTES_A_VALUE = 4  # float32
GRID_TIMES = 8  # an image may have so many times the largest size at the network's spacing, as thick slices have


class ServedSegmentation(Record, frozen=True, kw_only=True):
    """The answer to an image as JSON."""

    format: int = 1
    version: str  # of unetrpp
    name: str  # of the segmentation's file
    segmentation: str  # the file, in base64
    labels: dict[str, int]  # name -> value in the file
    geometry: Geometry
    volumes_ml: dict[str, float]  # by class name; empty for a photograph
    areas_pixels: dict[str, int]  # the same of a photograph
    expected_dice: dict[str, ExpectedDice | None]  # by class name; empty where the model has none
    why_no_expected_dice: str
    warnings: tuple[str, ...]
    seconds: float  # of the networks
    settings: Settings
    page: str = ""  # the page with the viewer, where it was asked for


@dataclass(frozen=True)
class Upload:
    """The files of one image as they were received, one per channel, and the name that the user gave the first."""

    files: Sequence[Path]
    names: Sequence[str] = field(default=())

    def in_users_words(self, sentence: str, folder: Path) -> str:
        """A sentence about the files, with the user's names for them and without the folder."""
        for file, name in zip(self.files, self.names, strict=True):
            sentence = sentence.replace(str(file), name).replace(file.name, name)
        return sentence.replace(f"{folder}/", "").removeprefix(f"{CASE}: ")


class Segmenter:
    """A loaded model, for one image after the other.

    Args:
        model: a model folder.
        options: how it predicts.
        largest: bytes of an image in memory, as float32.

    Raises:
        UserError: the model cannot be used.
    """

    def __init__(self, model: Path, options: InferenceOptions, largest: int):
        self.ensemble = Ensemble.load([model], options)
        self.model = self.ensemble.first.model
        self.largest = largest
        stages = [self.model, *([self.model.first_stage] if self.model.first_stage else [])]
        self.plans = [stage.configuration.preprocessing for stage in stages]
        for member in self.ensemble.members:
            _ = member.digest  # of the weights that are loaded now, and not of a later training in the same folder

    def __call__(self, upload: Upload, folder: Path, *, page: bool = False) -> ServedSegmentation:
        """Segment the image; everything is written into ``folder``, which the caller removes.

        Raises:
            Refusal: 413 or 400, the image is too large or cannot be used; 500, the prediction failed.
            UserError: the number of files or an ending is wrong, or a header names other files.
        """
        _require_own_bytes(upload)
        self._require_size(upload)
        cases = find_cases(upload.files, self.model.description)
        out = folder / "upload"
        progress = run_folder(self.ensemble, cases, OutputOptions(out, log_warnings=False))
        if CASE in progress.failed:
            sentence = upload.in_users_words(progress.failed[CASE], folder)
            raise Refusal(400 if CASE in progress.refused else 500, sentence)
        record, labels = progress.cases[CASE], self.model.plans.labels
        return ServedSegmentation(
            version=__version__,
            name=f"{case_id(Path(upload.names[0]))}_segmentation{self.model.plans.file_ending}",
            segmentation=base64.b64encode((out / record.output).read_bytes()).decode(),
            labels=dict(zip(labels.names, labels.values, strict=True)),
            geometry=record.geometry,
            volumes_ml=record.volumes_ml,
            areas_pixels=record.areas_pixels,
            expected_dice=record.expected_dice,
            why_no_expected_dice=self.ensemble.why_no_expected_dice,
            warnings=record.warnings,
            seconds=record.seconds,
            settings=progress.settings,
            page=prediction_page(out, earlier_runs(out), cases, self.model) if page else "",
        )

    def _require_size(self, upload: Upload) -> None:
        """By the headers alone: a small compressed file may hold a large image, or one whose voxels become many on the network's grid.

        Raises:
            Refusal: the image would take more memory than is allowed.
            UserError: a header cannot be read.
        """
        values = on_network = 0
        for file in upload.files:
            geometry, channels = reader_of(file).read_header(file)
            z, y, x = geometry.shape_zyx
            values += channels * z * y * x
            resampled = max(math.prod(network_shape(geometry, plan)) for plan in self.plans)
            on_network += channels * resampled
        for count, where, largest, repair in (
            (values, "in memory", self.largest, ""),
            (on_network, "at the spacing of the network", GRID_TIMES * self.largest, " correct its spacing,"),
        ):
            if count * BYTES_A_VALUE > largest:
                sizes = f"{format_bytes(count * BYTES_A_VALUE)} {where}, and this service takes {format_bytes(largest)}"
                raise Refusal(
                    413, f"the image has {sizes}; crop it,{repair} or start the service with a larger --largest-mb"
                )


def _require_own_bytes(upload: Upload) -> None:
    """Whoever sends a header must not get at the files of this machine, so that those that it names are not even looked for.

    Raises:
        UserError: a header says that its voxels are in another file.
    """
    for file in upload.files:
        if reader_of(file).parts(file) != [file]:
            raise UserError(f"{file.name} has its voxels in another file; save the image as one file and send that")
