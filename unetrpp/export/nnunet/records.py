"""nnU-Net's plans, dataset.json and fingerprint as records of ours that keep its frame, its rules and its order of averaging."""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any, Literal

import msgspec

from unetrpp.core.text import counted
from unetrpp.dataset.description import DatasetDescription
from unetrpp.plans.architecture import Architecture, as_3d
from unetrpp.plans.fingerprint import CaseFingerprint, Fingerprint, IntensityStatistics
from unetrpp.plans.nnunet import ForeignConfiguration
from unetrpp.plans.plans import (
    AugmentationPlan,
    Configuration,
    Decision,
    LossPlan,
    Normalization,
    NormalizationScheme,
    Plans,
    Preprocessing,
)

Triple = tuple[int, int, int]
FRAMES: dict[str, Literal["RAS", "file"]] = {  # by the name of nnU-Net's reader
    "SimpleITKIO": "file",
    "NibabelIO": "file",
    "NaturalImage2DIO": "file",
    "Tiff3DIO": "file",
    "SimpleITKIOWithReorient": "RAS",
    "NibabelIOWithReorient": "RAS",
}
SCHEMES: dict[str, NormalizationScheme] = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale_0_1",
    "RGBTo01Normalization": "rgb_to_0_1",
}
RESAMPLING = "resample_data_or_seg_to_shape"
ORDERS = {"data": 3, "seg": 1, "probabilities": 1}  # of nnU-Net's splines, by what is resampled


class Intensities(msgspec.Struct, frozen=True, kw_only=True):
    """``foreground_intensity_properties_per_channel`` of one channel."""

    mean: float
    std: float
    percentile_00_5: float
    percentile_99_5: float
    median: float = 0.0
    min: float = 0.0
    max: float = 0.0


class ForeignPlans(msgspec.Struct, frozen=True, kw_only=True):
    """plans.json of nnU-Net v2, as far as prediction depends on it."""

    dataset_name: str
    plans_name: str
    image_reader_writer: str
    transpose_forward: Triple
    configurations: dict[str, dict[str, Any]]
    label_manager: str = "LabelManager"
    foreground_intensity_properties_per_channel: dict[str, Intensities] = {}
    foreground_intensity_properties_by_modality: dict[str, Intensities] = {}  # the same, in plans of early releases
    original_median_spacing_after_transp: tuple[float, float, float] = (1.0, 1.0, 1.0)
    original_median_shape_after_transp: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @property
    def intensities(self) -> list[IntensityStatistics]:
        """One per channel."""
        found = self.foreground_intensity_properties_per_channel or self.foreground_intensity_properties_by_modality
        return [_statistics(found[key]) for key in sorted(found, key=int)]


class ForeignFingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """dataset_fingerprint.json: shapes and spacings of the training cases along the axes of their files."""

    shapes_after_crop: tuple[Triple, ...] = ()
    spacings: tuple[tuple[float, float, float], ...] = ()
    median_relative_size_after_cropping: float = 1.0


def _statistics(found: Intensities) -> IntensityStatistics:
    return IntensityStatistics(
        mean=found.mean,
        median=found.median,
        std=found.std,
        minimum=found.min,
        maximum=found.max,
        percentile_00_5=found.percentile_00_5,
        percentile_99_5=found.percentile_99_5,
    )


def faults(plans: ForeignPlans, configuration: ForeignConfiguration, channels: int) -> Iterator[str]:
    """What of a configuration cannot be taken over, each named with nnU-Net's own word for it."""
    if plans.image_reader_writer not in FRAMES:
        yield f"the reader {plans.image_reader_writer} is not one of {', '.join(FRAMES)}"
    if plans.label_manager != "LabelManager":
        yield f"the label manager {plans.label_manager} is not nnU-Net's own"
    if configuration.preprocessor_name != "DefaultPreprocessor":
        yield f"the preprocessor {configuration.preprocessor_name} is not nnU-Net's own"
    unknown = [name for name in configuration.normalization_schemes if name not in SCHEMES]
    if unknown:
        yield f"the normalisation {unknown[0]} is not one of {', '.join(SCHEMES)}"
    for what, order in ORDERS.items():
        function = getattr(configuration, f"resampling_fn_{what}")
        how = getattr(configuration, f"resampling_fn_{what}_kwargs")
        if function != RESAMPLING:
            yield f"the resampling function {function} is not {RESAMPLING}"
        elif (how.get("order"), how.get("order_z"), how.get("force_separate_z")) != (order, 0, None):
            yield f"{RESAMPLING} of {what} has other orders than {order} and 0 along a coarse axis"
    counts = [len(configuration.normalization_schemes), len(configuration.use_mask_for_norm), len(plans.intensities)]
    if counts != [channels] * 3:
        yield f"dataset.json has {channels} channels, the plans have normalisation for {min(counts)}"
    if len(configuration.spacing) != len(configuration.patch_size):
        yield f"the spacing has {counted(len(configuration.spacing), 'axis', 'axes')}, the patch {len(configuration.patch_size)}"


def our_plans(plans: ForeignPlans, name: str, description: DatasetDescription, configuration: Configuration) -> Plans:
    """Plans with this configuration alone."""
    return Plans(
        dataset=description.name,
        name=plans.plans_name,
        planner="nnunet",
        channel_names=description.channel_names,
        labels=description.labels,
        file_ending=description.file_ending,
        configurations={name: configuration},
        decisions=(),
    )


def our_configuration(
    plans: ForeignPlans,
    configuration: ForeignConfiguration,
    description: DatasetDescription,
    architecture: Architecture,
    *,
    mirror_axes: tuple[int, ...],
    source: Decision,
) -> Configuration:
    """The configuration, with nnU-Net's frame, rules and order of averaging."""
    spacing, patch = configuration.spacing, configuration.patch_size
    z, y, x = spacing if len(spacing) == 3 else (None, *spacing)
    rows = zip(
        description.channel_names,
        configuration.normalization_schemes,
        plans.intensities,
        configuration.use_mask_for_norm,
        strict=True,
    )
    normalization = (
        Normalization(
            channel=channel,
            scheme=SCHEMES[scheme],
            statistics=statistics,
            masked=masked and scheme == "ZScoreNormalization",
        )
        for channel, scheme, statistics, masked in rows
    )
    preprocessing = Preprocessing(
        orientation=FRAMES[plans.image_reader_writer],
        rules="nnunet",
        transpose=plans.transpose_forward,
        spacing_mm=(z, y, x),
        normalization=tuple(normalization),
        labels=description.labels,
        chunk=as_3d(patch),
    )
    return Configuration(
        preprocessing=preprocessing,
        architecture=architecture,
        batch_size=configuration.batch_size,
        mirror_axes=mirror_axes,
        augmentation=AugmentationPlan(rotation_degrees=(0.0,) * len(patch)),
        loss=LossPlan(batch_dice=configuration.batch_dice),
        training_memory_bytes=0,
        first_stage=configuration.previous_stage,
        averaging="logits",
        decisions=(source,),
    )


def source_decision(network: str, trainer: str, plans: ForeignPlans, name: str) -> Decision:
    """Where the model comes from, and what it keeps of that."""
    return Decision(
        about="network",
        value=f"nnU-Net's {network}",
        why=(
            f"trained by {trainer} of nnU-Net v2 as {name} of {plans.plans_name} for {plans.dataset_name}; images keep the axes that "
            f"its {plans.image_reader_writer} gives them, logits are averaged over folds and resampled before the softmax"
        ),
    )


def our_fingerprint(plans: ForeignPlans, found: ForeignFingerprint, description: DatasetDescription) -> Fingerprint:
    """What nnU-Net measured. It kept the shapes after cropping alone, and nothing of single classes."""
    shapes, spacings = list(found.shapes_after_crop), list(found.spacings)
    if not shapes or len(shapes) != len(spacings):
        back = [plans.transpose_forward.index(axis) for axis in range(3)]
        z, y, x = (round(plans.original_median_shape_after_transp[axis]) for axis in back)
        dz, dy, dx = (plans.original_median_spacing_after_transp[axis] for axis in back)
        shapes, spacings = [(z, y, x)], [(dz, dy, dx)]
    cases = tuple(
        CaseFingerprint(
            case=f"case_{number:04d}",
            shape=shape,
            spacing_mm=spacing,
            cropped_shape=shape,
            coarse_axis_in_file=spacing.index(max(spacing)),
            classes={},
            inputs_digest="",
        )
        for number, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True), start=1)
    )
    z, y, x = (round(median(axis)) for axis in zip(*shapes, strict=True))
    dz, dy, dx = (float(median(axis)) for axis in zip(*spacings, strict=True))
    return Fingerprint(
        dataset=description.name,
        description=description.digest(),
        cases=cases,
        intensities=tuple(plans.intensities),
        median_relative_size_after_crop=found.median_relative_size_after_cropping,
        median_spacing_mm=(dz, dy, dx),
        median_shape=(z, y, x),
        file_ending=description.file_ending,
    )


def without_unused_order(content: Mapping[str, Any]) -> dict[str, Any]:
    """dataset.json without what names cases, and without an order of regions where no label has several values, which nnU-Net
    then ignores."""
    labels = content.get("labels")
    regions = isinstance(labels, Mapping) and any(isinstance(v, list) and len(v) > 1 for v in labels.values())
    dropped = {"dataset", "groups"} | (set() if regions else {"regions_class_order"})
    return {key: value for key, value in content.items() if key not in dropped}
