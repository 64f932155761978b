"""What nnU-Net 2.8.1 plans for a set of fingerprints (tests/data/nnunet_plans.json), and the same fingerprints as ours.

``benchmarks/nnunet_plans.py`` made the file with nnU-Net's planners. By name of a dataset it holds ``cases`` (how many,
voxels, mm), ``channels``, ``labels``, ``kept`` (the median share of the volume that cropping keeps), ``file_ending`` and
``plans``: by planner ``transpose`` and ``configurations``.
"""

import json
from pathlib import Path

from tests.helpers.fingerprints import case_fingerprint, class_statistics, fingerprint
from unetrpp.dataset.description import read_description

GOLDEN = Path(__file__).parents[1] / "data" / "nnunet_plans.json"
THEIRS = json.loads(GOLDEN.read_text())


def described(dataset, folder):
    """The dataset's description, read from a dataset.json, and its fingerprint."""
    regions = any(isinstance(value, list) for value in dataset["labels"].values())
    content = {
        "channel_names": dict(enumerate(dataset["channels"])),
        "labels": dataset["labels"],
        "numTraining": 1,
        "file_ending": dataset["file_ending"],
    }
    (folder / "dataset.json").write_text(json.dumps(content | ({"regions_class_order": [1, 2, 3]} if regions else {})))
    description = read_description(folder / "dataset.json", "Made")
    classes = dict.fromkeys(description.labels.names[1:], class_statistics())
    rows = [row for count, *row in dataset["cases"] for row in [row] * count]
    cases = [case_fingerprint(f"case_{i}", tuple(n), tuple(map(float, mm)), classes) for i, (n, mm) in enumerate(rows)]
    return description, fingerprint(cases, len(dataset["channels"]), dataset["kept"])
