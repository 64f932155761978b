"""The Python examples in docs/prediction.md run as printed, except for their paths."""

import re
from pathlib import Path

import pytest

from tests.helpers.model import make_model, write_images

PAGE = Path(__file__).parents[2] / "docs" / "prediction.md"


@pytest.fixture
def names(tmp_path, monkeypatch):
    """What the examples define, run one after the other."""
    model = make_model(tmp_path)
    write_images(tmp_path / "imagesTs", 1)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf8"), flags=re.DOTALL):
        code = code.replace("unetrpp_workspace/results/Hippocampus/unetrpp__3d_fullres", model.as_posix())
        exec(code.replace("hippocampus_002_0000.nii.gz", "case_0_0000.nii.gz"), names)  # our own page
    return names


def test_the_python_examples_run(names):
    assert names["image"].GetSize() == (24, 24, 12)
    assert names["segmentation"].entropy.shape == names["segmentation"].array.shape
    assert names["labels"].shape == (12, 24, 24)
    assert names["result"].segmented == {"case_0": Path("segmentations/case_0.nii.gz")}
    assert Path("segmentations/case_0_entropy.nii.gz").exists()
