"""The record of what was measured: one entry per case, and the pooled intensities (planners/measure/fingerprint.py)."""

import math
from typing import ClassVar

import msgspec

from unetrpp.core.digest import digest
from unetrpp.core.files import Record
from unetrpp.io.formats import is_picture


class ClassStatistics(Record, frozen=True, kw_only=True):
    """One class in one case, after cropping, in the canonical frame."""

    voxels: int
    volume_mm3: float
    components: int
    component_radii_mm: tuple[float, ...]  # of the sphere of equal volume; the 100 largest components
    surface_to_volume_per_mm: float | None  # null when the class is absent
    smallest_extent_voxels: tuple[int, int, int] | None  # median bounding box of the components (z, y, x)
    center_lps_mm: tuple[float, float, float] | None  # relative to the image's centre


class CaseFingerprint(Record, frozen=True, kw_only=True):
    """Measurements of one case. Shapes and spacings are (z, y, x) in the canonical frame."""

    case: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    cropped_shape: tuple[int, int, int]
    coarse_axis_in_file: int  # array axis of the file that became the coarsest canonical axis
    classes: dict[str, ClassStatistics]  # by the label's name
    inputs_digest: str  # of the files, so that a later run notices changed ones
    # Release 0.1.0 recorded neither of these two; without them the crop is taken to lie in the middle of the image.
    crop_center_lps_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)  # relative to the image's centre
    body_share: float | None = None  # share of the crop's cells (a 32nd of each edge) that are not all background

    later_fields = frozenset({"crop_center_lps_mm", "body_share"})


class IntensityStatistics(Record, frozen=True, kw_only=True):
    """Foreground intensities of one channel, over equally many voxels of every case; they do not depend on cases' names."""

    mean: float
    median: float
    std: float
    minimum: float
    maximum: float
    percentile_00_5: float
    percentile_99_5: float


class LeftOut(Record, frozen=True, kw_only=True):
    """A case that cannot be read or used and was left out, as ``skip_unreadable`` asked."""

    reason: str
    inputs_digest: str  # of the files, so that a later run notices repaired ones


def disc_radius(ball_mm: float, slice_mm: float) -> float:
    """The radius of the disc that has, in a slice of this thickness, the volume of a ball; all in mm.

    >>> round(disc_radius(10.0, 4.0), 2)
    18.26
    """
    return math.sqrt(4 / 3 * ball_mm**3 / slice_mm)


class Fingerprint(Record, frozen=True, kw_only=True):
    later_fields: ClassVar[frozenset[str]] = frozenset({"left_out", "file_ending"})

    format: int = 1
    dataset: str
    description: str = ""  # digest of the channels, labels and groups that were measured
    cases: tuple[CaseFingerprint, ...]
    intensities: tuple[IntensityStatistics, ...]  # one per channel
    median_relative_size_after_crop: float
    median_spacing_mm: tuple[float, float, float]
    median_shape: tuple[int, int, int]
    warnings: tuple[str, ...] = ()
    left_out: dict[str, LeftOut] = msgspec.field(default_factory=dict[str, LeftOut])  # by case
    file_ending: str = ""  # of the dataset's files; release 0.1.0 did not record it

    @property
    def cases_digest(self) -> str:
        """Hash of the names of the measured cases and of their files: what plans are made from."""
        return digest(sorted((case.case, case.inputs_digest) for case in self.cases))

    @property
    def flat(self) -> bool:
        """Whether every image has one slice, so that there are areas instead of volumes."""
        return all(case.shape[0] == 1 for case in self.cases)

    @property
    def in_pixels(self) -> bool:
        """Whether the files give no size in mm: pictures, or stacks of them, whose every voxel counts as 1 x 1 x 1 mm.

        Without the file ending, flat images of that voxel size are taken for pictures.
        """
        pictures = is_picture(self.file_ending) if self.file_ending else self.flat
        return pictures and all(case.spacing_mm == (1, 1, 1) for case in self.cases)

    @property
    def voxel_name(self) -> str:
        """What the images consist of, in the plural."""
        return "pixels" if self.flat else "voxels"

    @property
    def length_unit(self) -> str:
        """The unit of lengths: mm, or pixels (voxels) where the files give no size."""
        return self.voxel_name if self.in_pixels else "mm"
