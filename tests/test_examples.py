"""The notebooks of examples/: they run, show what they promise, and are committed without results."""

import json
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples"
IN_ORDER = ("quickstart.ipynb", "predict_and_look.ipynb")  # the second looks at the first one's model
WIDGET = "application/vnd.jupyter.widget-view+json"


def cells(path):
    return [cell for cell in json.loads(path.read_text(encoding="utf8"))["cells"] if cell["cell_type"] == "code"]


def test_notebooks_are_committed_without_results():
    assert {path.name for path in FOLDER.glob("*.ipynb")} == set(IN_ORDER)
    for name in IN_ORDER:
        for cell in cells(FOLDER / name):
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A folder in which Jupyter has run the notebooks, as `jupyter execute` does on a user's machine."""
    folder = tmp_path_factory.mktemp("examples")
    jupyter = Path(sysconfig.get_path("scripts")) / "jupyter-execute"
    if not jupyter.exists():
        pytest.skip('nbclient is not installed: pip install -e ".[test]"')
    private = {name: str(folder / name.lower()) for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")}
    for name in IN_ORDER:
        shutil.copy(FOLDER / name, folder)
        command = [str(jupyter), "--inplace", "--timeout=900", name]
        done = subprocess.run(command, cwd=folder, env=os.environ | private, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder


def outputs(executed, name):
    return [output for cell in cells(executed / name) for output in cell["outputs"]]


@pytest.mark.slow
def test_the_quickstart_trains_predicts_and_scores(executed):
    found = outputs(executed, "quickstart.ipynb")
    pictures = [output for output in found if "image/png" in output.get("data", {})]
    assert len(pictures) == 2  # the plans and the learning curves
    printed = "".join("".join(output.get("text", "")) for output in found if output.get("name") == "stdout")
    assert float(printed.split("mean Dice")[-1]) > 0.5
    assert "patch: 16 x 32 x 32" in printed  # one of the decisions
    assert len(list((executed / "unetrpp_examples" / "predictions").glob("*.nii.gz"))) == 4


@pytest.mark.slow
def test_the_segmentation_is_shown_with_a_slider(executed):
    found = [output["data"] for output in outputs(executed, "predict_and_look.ipynb") if "data" in output]
    assert len([data for data in found if "image/png" in data and WIDGET in data]) == 3
    assert len([data for data in found if WIDGET in data and "image/png" not in data]) == 1  # in 3D
    assert (executed / "unetrpp_examples" / "slice_8.png").stat().st_size > 5000
    assert {path.name for path in (executed / "unetrpp_examples").glob("case_020*")} == {
        "case_020.nii.gz",
        "case_020_disagreement.nii.gz",
        "case_020_entropy.nii.gz",
    }
