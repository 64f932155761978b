"""The decathlon in miniature: from its dataset.json to training, and the ten real dataset.json."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.downloads import convert, label, scan, train_two_steps
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset_conversion.datasets import msd
from unetrpp.io.images import read_image

# Task -> training and test cases that are listed, channels, classes by value, and the reference, as the publication has them.
TASKS = {
    "Task01_BrainTumour": (484, 266, ["FLAIR", "T1w", "t1gd", "T2w"], ["edema", "non-enhancing tumor", "enhancing tumour"],
                           "https://www.med.upenn.edu/sbia/brats2017.html"),
    "Task02_Heart": (20, 10, ["MRI"], ["left atrium"], "King\u2019s College London"),
    "Task03_Liver": (131, 70, ["CT"], ["liver", "cancer"], None),
    "Task04_Hippocampus": (260, 130, ["MRI"], ["Anterior", "Posterior"], "Vanderbilt University Medical Center"),
    "Task05_Prostate": (32, 16, ["T2", "ADC"], ["PZ", "TZ"], "Radboud University, Nijmegen Medical Centre"),
    "Task06_Lung": (63, 32, ["CT"], ["cancer"], "The Cancer Imaging Archive"),
    "Task07_Pancreas": (281, 139, ["CT"], ["pancreas", "cancer"], "Memorial Sloan Kettering Cancer Center"),
    "Task08_HepaticVessel": (303, 139, ["CT"], ["Vessel", "Tumour"], "Memorial Sloan Kettering Cancer Center"),
    "Task09_Spleen": (41, 20, ["CT"], ["spleen"], "Memorial Sloan Kettering Cancer Center"),
    "Task10_Colon": (126, 64, ["CT"], ["colon cancer primaries"], "Memorial Sloan Kettering Cancer Center"),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_the_real_lists_of_each_task(task, test_data, tmp_path):
    training, tests, channels, classes, reference = TASKS[task]
    file = test_data / "samples/msd_dataset_json/derived" / task / "dataset.json"
    found = msd.read(file.parent)
    assert sum(not case.test for case in found.cases) == training
    assert sum(case.test for case in found.cases) == tests
    assert found.channel_names == tuple(channels)
    assert found.labels.names == ("background", *classes)
    assert found.labels.values == tuple(range(len(classes) + 1))
    assert found.reference == reference

    # The same file with two training cases and one test case, and images for them.
    content = json.loads(file.read_text(encoding="utf8"))
    content |= {"training": content["training"][:2], "test": content["test"][:1]}
    root = tmp_path / task
    for i, pair in enumerate(content["training"]):
        scan(root / pair["image"], ct=channels == ["CT"], channels=len(channels), seed=i)
        label(root / pair["label"], range(1, len(classes) + 1), seed=i)
    scan(root / content["test"][0], ct=channels == ["CT"], channels=len(channels), seed=9)
    (root / "dataset.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf8")
    converted = convert("msd", root, tmp_path / "w")
    assert converted.errors == ()
    assert converted.folder.name == task[7:]
    assert (len(converted.cases), len(converted.test_cases)) == (3, 1)
    dataset = read_dataset(converted.folder, converted.folder.name)
    assert dataset.description.channel_names == tuple(channels)
    case = dataset.cases[0]
    original = sitk.GetArrayFromImage(sitk.ReadImage(str(root / f"imagesTr/{case.id}.nii.gz")))
    written = np.stack([read_image(path).array[0] for path in case.images])
    np.testing.assert_array_equal(written, original.reshape(written.shape))


def test_a_task_goes_from_download_to_training(tmp_path):
    root = tmp_path / "Task09_Spleen"
    pairs = []
    for i in range(3):
        scan(root / f"imagesTr/spleen_{i}.nii.gz", ct=True, seed=i)
        label(root / f"labelsTr/spleen_{i}.nii.gz", [1], seed=i)
        pairs.append({"image": f"./imagesTr/spleen_{i}.nii.gz", "label": f"./labelsTr/spleen_{i}.nii.gz"})
    content = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}, "training": pairs, "test": []}
    (root / "dataset.json").write_text(json.dumps(content))
    converted = convert("msd", root, tmp_path / "w")
    assert converted.errors == ()
    assert converted.folder.name == "Spleen"
    assert train_two_steps(converted, tmp_path / "w").is_file()
