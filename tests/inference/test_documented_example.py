"""The example in docs/prediction.md runs as it stands, but for its paths."""

import re
from pathlib import Path

from tests.helpers.model import make_model, write_images

PAGE = Path(__file__).parents[2] / "docs" / "prediction.md"


def test_the_python_example_runs(tmp_path):
    model = make_model(tmp_path)
    write_images(tmp_path / "images", 1)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf8"), flags=re.DOTALL)
    code = code.replace("unetrpp_workspace/results/Hippocampus/unetrpp__3d_fullres", model.as_posix())
    code = code.replace("imagesTs/hippocampus_002_0000.nii.gz", (tmp_path / "images" / "case_0_0000.nii.gz").as_posix())
    names: dict = {}
    exec(code, names)  # our own page
    assert names["image"].GetSize() == (24, 24, 12)
    assert names["segmentation"].entropy.shape == names["segmentation"].array.shape
    assert names["labels"].shape == (12, 24, 24)
