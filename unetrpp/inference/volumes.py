"""volumes.csv beside the prediction record: a line for every case and class."""

import csv
import io
from pathlib import Path

from unetrpp.core.files import write_bytes
from unetrpp.inference.record import Progress, review_order

HEADER = ("case", "class", "expected Dice", "low", "high", "review")


def volumes_path(record: Path) -> Path:
    """
    >>> volumes_path(Path("predictions_2_of_4.json")).name
    'volumes_2_of_4.csv'
    """
    return record.with_name(record.name.replace("predictions", "volumes", 1)).with_suffix(".csv")


def write_volumes(progress: Progress) -> None:
    """Volumes in ml (areas in pixels of photographs) of the labels, expected Dice with its interval of the classes or regions,
    and the case's place in the review order."""
    places = {case: place for place, case in enumerate(review_order(progress.cases, progress.expected_by), start=1)}
    flat = any(record.areas_pixels for record in progress.cases.values())
    rows: list[tuple[object, ...]] = [(*HEADER[:2], "area in pixels" if flat else "volume in ml", *HEADER[2:])]
    for case, record in sorted(progress.cases.items()):
        sizes: dict[str, float] = dict(record.areas_pixels or record.volumes_ml)
        expected = record.expected_dice if case in places else {}
        for name in dict.fromkeys((*sizes, *expected)):
            found = expected.get(name)
            values = ("", "", "") if found is None else (found.expected, found.low, found.high)
            rows.append((case, name, sizes.get(name, ""), *values, places.get(case, "")))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path, content = volumes_path(progress.path), text.getvalue().encode()
    if not path.is_file() or path.read_bytes() != content:
        write_bytes(path, content)
