"""Fingerprint extraction: one pass over the raw cases, in parallel, that verifies and measures them."""

import logging
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

import msgspec
import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.core.parallel import run_cases
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
    strays,
)
from unetrpp.io.geometry import canonical_orientation, reorder, to_canonical
from unetrpp.planners.measure.structures import class_statistics
from unetrpp.plans.fingerprint import CaseFingerprint, Fingerprint, IntensityStatistics
from unetrpp.preprocessing.crop import foreground_box, shape_of, slices

LOG = logging.getLogger(__name__)

VOXELS_A_CASE = 10_000  # foreground intensities kept of every case, so that all cases have equal weight


class Measurement(msgspec.Struct, frozen=True):
    """Problems of one case and, unless one of them is fatal, its measurements.

    ``intensities`` (C, VOXELS_A_CASE) float32 are drawn with replacement, seeded by the case's id; None without
    foreground.
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
    dataset: RawDataset, folder: Path, executor: Executor, *, overwrite: bool = False
) -> tuple[Fingerprint, dict[str, str]]:
    """The fingerprint in ``folder`` and the digests of every case's files; measured again where files or the
    description changed, but not written: planning may still be refused.

    Raises:
        UserError: verification found errors; the table of all problems has been logged.
    """
    path = folder / "fingerprint.json"
    if path.exists() and not overwrite:
        digests = {case.id: inputs_digest(case) for case in dataset.cases}
        fingerprint = read_json(path, Fingerprint, hint="delete it")
        if is_current(fingerprint, dataset.description, digests):
            _report(declaration_problems(dataset))  # it may have become wrong without any file of a case
            return fingerprint, digests
    found = survey(dataset, executor)
    _report(found.problems)
    assert found.fingerprint is not None  # nothing is fatal
    return found.fingerprint, {c.case: c.inputs_digest for c in found.fingerprint.cases}


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
    measured = {c.case: c.inputs_digest for c in fingerprint.cases}
    return fingerprint.description == description.digest() and measured == dict(digests)


def survey(dataset: RawDataset, executor: Executor) -> Survey:
    """Verify and measure every case; the result does not depend on the number of processes."""
    jobs = {case.id: (case, dataset.description) for case in dataset.cases}
    measured: dict[str, Measurement] = {}
    for outcome in run_cases(measure, jobs, "fingerprint", len(jobs), executor=executor):
        if outcome.error is not None:
            problem = Problem(case=outcome.case, message=outcome.error.message)
            measured[outcome.case] = Measurement(problems=(problem,))
        elif outcome.value is not None:
            measured[outcome.case] = outcome.value
    ordered = [measured[case] for case in sorted(measured)]
    problems = [problem for m in ordered for problem in m.problems]
    problems += duplicates(
        {c: m.image_digest for c, m in measured.items() if m.image_digest}, dataset.description.groups
    )
    problems += _whole_dataset(ordered) + strays(dataset) + declaration_problems(dataset)
    if any(problem.fatal for problem in problems):
        return Survey(tuple(problems), None)
    return Survey(tuple(problems), _pool(dataset.description, ordered, problems))


def measure(case: Case, description: DatasetDescription) -> Measurement:
    """Read, verify and measure one case (runs in a worker)."""
    found = inspect(case, description)
    if found.image is None or found.label is None or any(problem.fatal for problem in found.problems):
        return Measurement(found.problems, None if found.image is None else image_digest(found.image))
    orientation = canonical_orientation(found.image.geometry)
    image = to_canonical(found.image.array, orientation)
    box = foreground_box(image)
    label = description.labels.encode(to_canonical(found.label.array, orientation)[0])
    spacing = reorder(found.image.geometry.spacing_zyx_mm, orientation.axes)
    z, y, x = image.shape[1:]
    fingerprint = CaseFingerprint(
        case=case.id,
        shape=(z, y, x),
        spacing_mm=spacing,
        cropped_shape=shape_of(box),
        coarse_axis_in_file=orientation.axes[int(np.argmax(spacing))],
        classes=class_statistics(label, description.labels, spacing),
        inputs_digest=inputs_digest(case),
    )
    inside = (slice(None), *slices(box))
    sample = _foreground_sample(image[inside], label[slices(box)], description.labels, case.id)
    return Measurement(found.problems, image_digest(found.image), fingerprint, sample)


def _foreground_sample(image: np.ndarray, label: np.ndarray, scheme: LabelScheme, case: str) -> np.ndarray | None:
    foreground = label > 0 if scheme.ignore_index is None else (label > 0) & (label != scheme.ignore_index)
    voxels = image[:, foreground]
    if not voxels.shape[1]:
        return None
    random = np.random.default_rng(zlib.crc32(case.encode()))
    return voxels[:, random.integers(voxels.shape[1], size=VOXELS_A_CASE)]


def _whole_dataset(measured: Sequence[Measurement]) -> list[Problem]:
    complete = [m for m in measured if m.fingerprint is not None]
    if complete and all(m.intensities is None for m in complete):
        return [
            Problem(case=DATASET, message="no case has any foreground, so there is nothing to learn; check the labels")
        ]
    return []


def _pool(description: DatasetDescription, measured: Sequence[Measurement], problems: Sequence[Problem]) -> Fingerprint:
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
    )


def _statistics(values: np.ndarray) -> IntensityStatistics:
    """Intensity statistics of one channel's sampled foreground voxels."""
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
