"""The decathlon in miniature: from its dataset.json to training."""

import json

from tests.helpers.downloads import convert, label, scan, train_two_steps


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
