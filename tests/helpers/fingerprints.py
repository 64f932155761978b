"""Synthetic fingerprints, for tests of the rules."""

from unetrpp.dataset.description import DatasetDescription
from unetrpp.dataset.labels import LabelScheme
from unetrpp.plans.fingerprint import CaseFingerprint, ClassStatistics, Fingerprint, IntensityStatistics

STATISTICS = IntensityStatistics(
    mean=40.0, median=41.0, std=20.0, minimum=-900.0, maximum=1500.0, percentile_00_5=-100.0, percentile_99_5=200.0
)


def class_statistics(center=(0.0, 0.0, 0.0), extent=(10, 10, 10)):
    return ClassStatistics(
        voxels=1000,
        volume_mm3=1000.0,
        components=1,
        component_radii_mm=(6.2,),
        surface_to_volume_per_mm=0.5,
        smallest_extent_voxels=extent,
        center_lps_mm=center,
    )


def case_fingerprint(name="a", shape=(40, 50, 60), spacing=(1.0, 1.0, 1.0), classes=None, coarse_axis_in_file=0):
    return CaseFingerprint(
        case=name,
        shape=shape,
        spacing_mm=spacing,
        cropped_shape=shape,
        coarse_axis_in_file=coarse_axis_in_file,
        classes=classes or {"organ": class_statistics()},
        inputs_digest="",
    )


def fingerprint(cases, channels=1, kept=1.0):
    return Fingerprint(
        dataset="Made",
        cases=tuple(cases),
        intensities=(STATISTICS,) * channels,
        median_relative_size_after_crop=kept,
        median_spacing_mm=(1.0, 1.0, 1.0),
        median_shape=(1, 1, 1),
    )


def description(names=("background", "organ"), channels=("MR",)):
    return DatasetDescription(
        name="Made",
        channel_names=channels,
        labels=LabelScheme(names=names, values=tuple(range(len(names)))),
        file_ending=".nii.gz",
    )
