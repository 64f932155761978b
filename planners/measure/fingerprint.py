"""Fingerprint extraction: one pass over the raw cases, in parallel, that verifies and measures them."""

import logging
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

import msgspec
import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.core.parallel import run_cases
from unetrpp.core.text import escaped
from unetrpp.dataset.cases import Case, RawDataset
from unetrpp.dataset.declarations import declaration_problems
from unetrpp.dataset.description import DatasetDescription
from unetrpp.dataset.labels import LabelScheme
from unetrpp.dataset.verification import (
    DATASET,
    Problem,
    duplicates,
    image_digest,
    inputs_digest,
    inspect,
    problem_table,
)
from unetrpp.io.geometry import Spacing, canonical_orientation, reorder, to_canonical
from unetrpp.planners.measure.occupancy import any_in_cells
from unetrpp.planners.measure.structures import class_statistics
from unetrpp.plans.fingerprint import CaseFingerprint, ClassStatistics, Fingerprint, IntensityStatistics, LeftOut
from unetrpp.preprocessing.crop import Box, background_values, foreground_box, shape_of, slices

LOG = logging.getLogger(__name__)

VOXELS_A_CASE = 10_000  # foreground intensities kept of every case, so that all cases have equal weight
CELLS = 32  # per axis of a crop, in which background is looked for: single voxels of noise in air may be 0 by chance


class Measurement(msgspec.Struct, frozen=True):
    """Problems of one case and, unless one of them is fatal, its measurements.

    ``intensities`` (C, VOXELS_A_CASE) float32 are drawn with replacement, from one seed for all cases so that a case's name
    does not matter; None without foreground.
    """

    problems: tuple[Problem, ...]
    image_digest: str | None = None
    fingerprint: CaseFingerprint | None = None
    intensities: np.ndarray | None = None


class Survey(msgspec.Struct, frozen=True):
    """All problems of a dataset; ``fingerprint`` is None where one of them is fatal."""

    problems: tuple[Problem, ...]
    fingerprint: Fingerprint | None


def load_or_measure(
    dataset: RawDataset,
    folder: Path,
    executor: Executor,
    *,
    others: Sequence[Problem] = (),
    skip_unreadable: bool = False,
    overwrite: bool = False,
) -> tuple[Fingerprint, dict[str, str]]:
    """The fingerprint in ``folder`` and the digests of the files of every case in it; measured again where files or the
    description changed, but not written: planning may still be refused.

    Args:
        others: problems that are known already: of files that belong to no case.
        skip_unreadable: cases that cannot be read or used, and images that belong to no case, are left out with a warning.

    Raises:
        UserError: verification found errors; the table of all problems has been logged.
    """
    path = folder / "fingerprint.json"
    if skip_unreadable:
        others = [_as_left_out(problem) for problem in others]
    if path.exists() and not overwrite:
        digests = {case.id: inputs_digest(case) for case in dataset.cases}
        found = read_json(path, Fingerprint, hint="delete it")
        if is_current(found, dataset.description, digests) and (skip_unreadable or not found.left_out):
            left = [Problem(case=case, message=skipped.reason) for case, skipped in found.left_out.items()]
            _report([*others, *map(_as_left_out, left), *declaration_problems(dataset)])
            return found, {c.case: c.inputs_digest for c in found.cases}
    surveyed = survey(dataset, executor, others, skip_unreadable=skip_unreadable)
    _report(surveyed.problems)
    assert surveyed.fingerprint is not None  # nothing is fatal
    return surveyed.fingerprint, {c.case: c.inputs_digest for c in surveyed.fingerprint.cases}


def _as_left_out(problem: Problem) -> Problem:
    """A warning from an error; a warning stays as it is."""
    return Problem(case=problem.case, message=f"left out: {problem.message}", fatal=False) if problem.fatal else problem


def _report(problems: Sequence[Problem]) -> None:
    """Log the table of all problems.

    Raises:
        UserError: one of them is fatal.
    """
    if problems:
        LOG.warning("%s", problem_table(problems))
    errors = [p for p in problems if p.fatal]
    if errors:
        others = f"; {len(errors) - 1} more in the table above" if len(errors) > 1 else ""
        raise UserError(f"{errors[0].message} (nothing was started{others})", case=errors[0].case)


def is_current(fingerprint: Fingerprint, description: DatasetDescription, digests: Mapping[str, str]) -> bool:
    """Whether it was measured on exactly these files (:func:`inputs_digest` by case) with this description."""
    measured = {escaped(c.case): c.inputs_digest for c in fingerprint.cases}
    measured |= {case: skipped.inputs_digest for case, skipped in fingerprint.left_out.items()}
    now = {escaped(case): digest for case, digest in digests.items()}
    return fingerprint.description == description.digest() and measured == now


def survey(
    dataset: RawDataset, executor: Executor, others: Sequence[Problem] = (), *, skip_unreadable: bool = False
) -> Survey:
    """Verify and measure every case; the result does not depend on the number of processes.

    Args:
        others: problems that are known already.
        skip_unreadable: leave out the cases with errors, which become warnings.
    """
    jobs = {case.id: (case, dataset.description) for case in dataset.cases}
    measured: dict[str, Measurement] = {}
    for outcome in run_cases(measure, jobs, "fingerprint", len(jobs), executor=executor):
        if outcome.error is not None:
            problem = Problem(case=outcome.case, message=outcome.error.message)
            measured[outcome.case] = Measurement(problems=(problem,))
        elif outcome.value is not None:
            measured[outcome.case] = outcome.value
    left_out: dict[str, LeftOut] = {}
    if skip_unreadable:
        left_out = _left_out(dataset, measured)
        measured = {case: _without_errors(m) if case in left_out else m for case, m in measured.items()}
    ordered = [measured[case] for case in sorted(measured)]
    problems = [problem for found in ordered for problem in found.problems]
    images = {
        case: m.image_digest for case, m in measured.items() if m.image_digest is not None and case not in left_out
    }
    problems += duplicates(images, dataset.description.groups)
    problems += [*_whole_dataset(ordered), *others, *declaration_problems(dataset)]
    if any(problem.fatal for problem in problems):
        return Survey(tuple(problems), None)
    records = {escaped(case): found for case, found in left_out.items()}
    return Survey(tuple(problems), _pool(dataset.description, ordered, problems, records))


def _left_out(dataset: RawDataset, measured: Mapping[str, Measurement]) -> dict[str, LeftOut]:
    """The cases with errors; none where every case has one."""
    errors = {case: next((p.message for p in m.problems if p.fatal), None) for case, m in measured.items()}
    found = {
        case.id: LeftOut(reason=reason, inputs_digest=inputs_digest(case))
        for case in dataset.cases
        if (reason := errors[case.id]) is not None
    }
    return found if len(found) < len(measured) else {}


def _without_errors(measurement: Measurement) -> Measurement:
    return msgspec.structs.replace(measurement, problems=tuple(map(_as_left_out, measurement.problems)))


def measure(case: Case, description: DatasetDescription) -> Measurement:
    """Read, verify and measure one case (runs in a worker)."""
    found = inspect(case, description)
    if found.image is None or found.label is None or any(problem.fatal for problem in found.problems):
        return Measurement(found.problems, None if found.image is None else image_digest(found.image))
    orientation = canonical_orientation(found.image.geometry)
    image = to_canonical(found.image.array, orientation)
    box = foreground_box(image)
    inside = (slice(None), *slices(box))
    label = description.labels.encode(to_canonical(found.label.array, orientation)[0])[slices(box)]
    spacing = reorder(found.image.geometry.spacing_zyx_mm, orientation.axes)
    z, y, x = image.shape[1:]
    middle = _crop_center_lps_mm(box, (z, y, x), spacing)
    # Within the crop, so that air around the body changes nothing.
    classes = class_statistics(label, description.labels, spacing)
    fingerprint = CaseFingerprint(
        case=case.id,
        shape=(z, y, x),
        spacing_mm=spacing,
        cropped_shape=shape_of(box),
        coarse_axis_in_file=orientation.axes[int(np.argmax(spacing))],
        classes={name: _moved(statistics, middle) for name, statistics in classes.items()},
        inputs_digest=inputs_digest(case),
        crop_center_lps_mm=middle,
        body_share=_body_share(image[inside], background_values(image)),
    )
    sample = _foreground_sample(image[inside], label, description.labels)
    return Measurement(found.problems, image_digest(found.image), fingerprint, sample)


def _crop_center_lps_mm(box: Box, shape: tuple[int, int, int], spacing: Spacing) -> tuple[float, float, float]:
    """The crop's centre relative to the image's."""
    z, y, x = ((sum(box[axis]) - shape[axis]) / 2 * spacing[axis] for axis in range(3))
    return x, y, z


def _moved(statistics: ClassStatistics, by_lps_mm: tuple[float, float, float]) -> ClassStatistics:
    if statistics.center_lps_mm is None:
        return statistics
    x, y, z = (center + shift for center, shift in zip(statistics.center_lps_mm, by_lps_mm, strict=True))
    return msgspec.structs.replace(statistics, center_lps_mm=(x, y, z))


def _body_share(image: np.ndarray, background: tuple[float, ...]) -> float:
    """The share of an image's (C, Z, Y, X) cells in which any channel has anything but its background value."""
    body = np.any([channel != value for channel, value in zip(image, background, strict=True)], axis=0)
    z, y, x = (math.ceil(n / CELLS) for n in image.shape[1:])
    return float(any_in_cells(body, (z, y, x)).mean())


def _foreground_sample(image: np.ndarray, label: np.ndarray, scheme: LabelScheme) -> np.ndarray | None:
    foreground = label > 0 if scheme.ignore_index is None else (label > 0) & (label != scheme.ignore_index)
    voxels = image[:, foreground]
    if not voxels.shape[1]:
        return None
    return voxels[:, np.random.default_rng(0).integers(voxels.shape[1], size=VOXELS_A_CASE)]


def _whole_dataset(measured: Sequence[Measurement]) -> list[Problem]:
    complete = [m for m in measured if m.fingerprint is not None]
    if complete and all(m.intensities is None for m in complete):
        return [
            Problem(case=DATASET, message="no case has any foreground, so there is nothing to learn; check the labels")
        ]
    return []


def _pool(
    description: DatasetDescription,
    measured: Sequence[Measurement],
    problems: Sequence[Problem],
    left_out: dict[str, LeftOut],
) -> Fingerprint:
    cases = tuple(m.fingerprint for m in measured if m.fingerprint is not None)
    samples = [m.intensities for m in measured if m.intensities is not None]
    spacing = np.median([c.spacing_mm for c in cases], axis=0)
    shape = np.median([c.cropped_shape for c in cases], axis=0)
    kept = [np.prod(c.cropped_shape) / np.prod(c.shape) for c in cases]
    return Fingerprint(
        dataset=description.name,
        description=description.digest(),
        cases=cases,
        intensities=tuple(_statistics(values) for values in np.concatenate(samples, axis=1)),
        median_relative_size_after_crop=float(np.median(kept)),
        median_spacing_mm=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        median_shape=(int(shape[0]), int(shape[1]), int(shape[2])),
        warnings=tuple(f"{p.case}: {p.message}" for p in problems),
        left_out=left_out,
        file_ending=description.file_ending,
    )


def _statistics(values: np.ndarray) -> IntensityStatistics:
    """Intensity statistics of one channel's sampled foreground voxels."""
    values = np.sort(values)  # sums of floats depend on their order, which is that of the cases' names
    low, median, high = np.percentile(values, [0.5, 50, 99.5])
    return IntensityStatistics(
        mean=float(values.mean(dtype=np.float64)),
        median=float(median),
        std=float(values.std(dtype=np.float64)),
        minimum=float(values.min()),
        maximum=float(values.max()),
        percentile_00_5=float(low),
        percentile_99_5=float(high),
    )
