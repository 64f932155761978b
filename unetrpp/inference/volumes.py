"""volumes.csv beside the prediction record: a line for every case and class."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from unetrpp.core.files import write_bytes
from unetrpp.inference.intensities import Intensity
from unetrpp.inference.record import CaseRecord, Progress, review_order

HEADER = ("case", "class", "expected Dice", "low", "high", "review")


def volumes_path(record: Path) -> Path:
    """
    >>> volumes_path(Path("predictions_2_of_4.json")).name
    'volumes_2_of_4.csv'
    """
    return record.with_name(record.name.replace("predictions", "volumes", 1)).with_suffix(".csv")


def write_volumes(progress: Progress) -> None:
    """Volumes in ml (areas in pixels of photographs) of the labels, expected Dice with its interval of the classes or regions,
    the case's place in the review order and, where they were asked for, mean and sd of the intensities of every channel."""
    places = {case: place for place, case in enumerate(review_order(progress.cases, progress.expected_by), start=1)}
    flat = any(record.areas_pixels for record in progress.cases.values())
    channels = _channels(progress.cases.values())
    intensity_columns = [f"{what} {channel}" for channel in channels for what in ("mean", "sd")]
    size_column = "area in pixels" if flat else "volume in ml"
    rows: list[tuple[object, ...]] = [(*HEADER[:2], size_column, *HEADER[2:], *intensity_columns)]
    for case, record in sorted(progress.cases.items()):
        sizes: dict[str, float] = dict(record.areas_pixels or record.volumes_ml)
        expected = record.expected_dice if case in places else {}
        intensities = record.intensities or {}
        for name in dict.fromkeys((*sizes, *expected, *intensities)):
            found = expected.get(name)
            values = ("", "", "") if found is None else (found.expected, found.low, found.high)
            of_class = _intensity_cells(intensities.get(name, {}), channels)
            rows.append((case, name, sizes.get(name, ""), *values, places.get(case, ""), *of_class))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path, content = volumes_path(progress.path), text.getvalue().encode()
    if not path.is_file() or path.read_bytes() != content:
        write_bytes(path, content)


def _channels(records: Iterable[CaseRecord]) -> list[str]:
    """The channels whose intensities some record has."""
    return list(
        dict.fromkeys(
            channel
            for record in records
            for by_channel in (record.intensities or {}).values()
            for channel in by_channel
        )
    )


def _intensity_cells(found: Mapping[str, Intensity], channels: Sequence[str]) -> list[object]:
    """Mean and sd of every channel; empty where the class is not there, or they were not asked for."""
    known = [found.get(channel) for channel in channels]
    return [
        "" if value is None else value for each in known for value in ((each.mean, each.sd) if each else (None, None))
    ]
