"""The result of a prediction: label values and optional maps on the input's grid, and the names of their files."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import SimpleITK as sitk

from unetrpp.inference.expected_dice import ExpectedDice
from unetrpp.io.formats import strip_ending
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume, read_image, to_sitk, write_image, write_segmentation

if TYPE_CHECKING:
    from ipyniivue import NiiVue

    from unetrpp.plotting.slices import SlicePicture

LabelValue: TypeAlias = np.uint8 | np.uint16 | np.uint32 | np.uint64 | np.int32  # the smallest that holds all values
LabelMap: TypeAlias = np.ndarray[tuple[int, int, int], np.dtype[LabelValue]]
UncertaintyMap: TypeAlias = np.ndarray[tuple[int, int, int], np.dtype[np.float32]]
ProbabilityMaps: TypeAlias = np.ndarray[tuple[int, int, int, int], np.dtype[np.float16]]

WHOLE_NUMBERS_ONLY = (".png", ".bmp")  # maps of such images are written as .tif


@dataclass(frozen=True)
class Segmentation:
    """A segmentation on the grid of its input. Maps that were not requested are None.

    Attributes:
        array: (Z, Y, X), the label values of dataset.json.
        geometry: grid of the input: shape, spacing, origin and direction.
        probabilities: (K, Z, Y, X), one map per class in the order of the labels (per region if there are any).
        entropy: (Z, Y, X), entropy of the mean probabilities divided by its maximum: 0 (sure) to 1.
        disagreement: (Z, Y, X), share of the folds whose decision differs from that of their mean: 0 to 1.
        expected_dice: by class or region, the Dice to be expected and its 90% interval; None for a class where nothing tells
            whether it should be there. The whole is None where the model is not calibrated, or predicts otherwise than in
            its validation.
        names: label value -> name of its class or region.
        channels: output channel (class or region) of each map of ``probabilities``; empty: they are all there, in order.
    """

    array: LabelMap
    geometry: Geometry
    probabilities: ProbabilityMaps | None = None
    entropy: UncertaintyMap | None = None
    disagreement: UncertaintyMap | None = None
    expected_dice: Mapping[str, ExpectedDice | None] | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    channels: tuple[int, ...] = ()

    def to_sitk(self) -> sitk.Image:
        """The label values as a SimpleITK image with the grid of the input."""
        return to_sitk(self.array, self.geometry)

    def save(self, path: Path | str) -> None:
        """Write the labels to ``path`` and every map beside it: CASE_entropy, CASE_disagreement, CASE_probability_k.

        Raises:
            UserError: ``path`` has no ending of a format that is written, or one of photographs and there are several slices.
        """
        path = Path(path)
        for name, array in self._maps():
            write_image(map_path(path, name), Volume(array[None].astype(np.float32), self.geometry))
        write_segmentation(path, self.array, self.geometry)

    def show(
        self,
        image: Volume | Path | str | None = None,
        *,
        index: int | None = None,
        axis: Literal[0, 1, 2] | None = None,
    ) -> "SlicePicture":
        """Draw one slice with the labels painted on it.

        The result is a matplotlib figure. A notebook shows it, with a slider for the slices if ipywidgets is installed
        (``pip install "unetrpp[notebook]"``); a script saves it with ``savefig``. The patient's right (in a sagittal slice:
        front) is at the left of the picture, front (or head) at the top.

        Args:
            image: the segmented image, or the path of its first channel; without it the labels are on black.
            index: number of the slice; by default that of the slice which shows most of every class.
            axis: of the array (Z, Y, X), which the slices are cut across; by default the one with the coarsest voxels.

        Raises:
            UserError: the image cannot be read or is on another grid, or there is no such slice.
        """
        from unetrpp.plotting.slices import cut_slices, draw_slice  # here, for matplotlib takes half a second

        volume = read_image(Path(image)) if isinstance(image, Path | str) else image
        return draw_slice(cut_slices(self.array, self.geometry, volume, self.names, axis=axis), index)

    def show_3d(self, image: Volume | Path | str | None = None) -> "NiiVue":
        """Show the labels on the image in three planes and as a body that turns, in a notebook (``pip install "unetrpp[niivue]"``).

        The result is the widget of ipyniivue; its methods change the view, such as ``set_slice_type``. The voxels go to the
        browser as they are, in 4 bytes each: 300 MB for an image of 512 x 512 x 300.

        Args:
            image: the segmented image, or the path of its first channel; without it the labels alone are shown.

        Raises:
            UserError: ipyniivue is not installed, the image cannot be read or is on another grid, or it is a single slice.
        """
        from unetrpp.plotting.niivue import labels_in_3d

        volume = read_image(Path(image)) if isinstance(image, Path | str) else image
        return labels_in_3d(self.array, self.geometry, volume, self.names)

    def _maps(self) -> Iterator[tuple[str, np.ndarray]]:
        maps = () if self.probabilities is None else self.probabilities
        for k, probability in zip(self.channels or range(len(maps)), maps, strict=True):
            yield f"probability_{k}", probability
        if self.entropy is not None and self.disagreement is not None:
            yield "entropy", self.entropy
            yield "disagreement", self.disagreement


def map_names(channels: Iterable[int], uncertainty: bool) -> tuple[str, ...]:
    """Names of a segmentation's maps: the probabilities of these output channels, then entropy and disagreement.

    >>> map_names([0, 1], True)
    ('probability_0', 'probability_1', 'entropy', 'disagreement')
    """
    return (*(f"probability_{k}" for k in channels), *(("entropy", "disagreement") if uncertainty else ()))


def map_path(path: Path, name: str) -> Path:
    """The file of a map beside the segmentation at ``path``.

    >>> map_path(Path("case.png"), "entropy").name
    'case_entropy.tif'
    """
    stem = strip_ending(path.name)
    ending = path.name.removeprefix(stem)
    ending = ".tif" if ending.lower() in WHOLE_NUMBERS_ONLY else ending
    return path.with_name(f"{stem}_{name}{ending}")


def dicom_seg_name(output: str) -> str:
    """The DICOM SEG beside the segmentation ``output``.

    >>> dicom_seg_name("case.nii.gz")
    'case.dcm'
    """
    return f"{strip_ending(output)}.dcm"


def rtstruct_name(output: str) -> str:
    """The RT Structure Set beside the segmentation ``output``.

    >>> rtstruct_name("case.nii.gz")
    'case_rtstruct.dcm'
    """
    return f"{strip_ending(output)}_rtstruct.dcm"
