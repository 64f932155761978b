"""The public names: lazy, complete and typed, so that mypy finds a misuse before anything runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

import unetrpp

ROOT = Path(__file__).parent.parent

# Every line that misuses a public name ends with a part of mypy's complaint.
MISUSES = """
from pathlib import Path
from unetrpp import Predictor, Segmentation, Volume, plan_and_preprocess, read_plans, train

predictor = Predictor(Path("model"), mirroring=False)
segmentation = predictor("scan.nii.gz", probabilities=True)
segmentation.save(Path("out.nii.gz"))
Predictor("model", "0")  # Too many positional arguments
Predictor("model", mirroring="no")  # incompatible type "str"; expected "bool"
Predictor("model", folds=1.5)  # Argument "folds" to "Predictor" has incompatible type
Predictor("model", checkpoint="last")  # Argument "checkpoint" to "Predictor" has incompatible type
predictor(42)  # Argument 1 to "__call__" of "Predictor" has incompatible type "int"
predictor("scan.nii.gz", probability=True)  # Unexpected keyword argument "probability"
predictor("scan.nii.gz").labels  # "Segmentation" has no attribute "labels"
text: str = segmentation.geometry.spacing_zyx_mm  # Incompatible types in assignment
segmentation.array = None  # Property "array" defined in "Segmentation" is read-only
segmentation.save(7)  # Argument 1 to "save" of "Segmentation" has incompatible type "int"

planned = plan_and_preprocess("Liver", batch_size=2, patch=(64, 64, 64))
plan_and_preprocess("Liver", 2)  # Too many positional arguments
plan_and_preprocess("Liver", batch_size="2")  # Argument "batch_size" to "plan_and_preprocess" has incompatible type "str"
plan_and_preprocess("Liver", attention="some")  # Argument "attention" to "plan_and_preprocess" has incompatible type
plan_and_preprocess("Liver", batchsize=2)  # Unexpected keyword argument "batchsize"
planned.errors.append  # has no attribute "append"

model = train("Liver", "3d_fullres", 0, epochs=2)
train("Liver")  # Missing positional argument "configuration"
train("Liver", "3d_fullres", 0, 2)  # Too many positional arguments
train("Liver", "3d_fullres", optimizer="sgdm")  # Argument "optimizer" to "train" has incompatible type
train("Liver", "3d_fullres", epochs=1.5)  # Argument "epochs" to "train" has incompatible type "float"
number: int = model.path  # Incompatible types in assignment
read_plans("plans.json")  # Argument 1 to "read_plans" has incompatible type "str"; expected "Path"
"""


def test_mypy_complains_about_every_misuse_and_nothing_else(tmp_path):
    file = tmp_path / "misuse.py"
    file.write_text(MISUSES, encoding="utf8")
    config = ["--config-file", str(ROOT / "pyproject.toml"), "--strict", "--hide-error-context", "--no-error-summary"]
    complaints: dict[int, str] = {}
    for line in api.run([*config, "--cache-dir", str(ROOT / ".mypy_cache"), str(file)])[0].splitlines():
        if match := re.search(r"misuse\.py:(\d+): error: (.*)", line):
            complaints[int(match[1])] = complaints.get(int(match[1]), "") + match[2]
    expected = {
        number: line.partition("  # ")[2] for number, line in enumerate(MISUSES.splitlines(), start=1) if "  # " in line
    }
    assert len(expected) > 15
    assert complaints.keys() == expected.keys()
    for number, part in expected.items():
        assert part in complaints[number]


def test_importing_the_package_loads_neither_torch_nor_numpy():
    code = "import sys, unetrpp; print(*(m for m in ('torch', 'numpy', 'msgspec', 'SimpleITK') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_stub_names_what_the_package_exports():
    stub = (ROOT / "unetrpp" / "__init__.pyi").read_text(encoding="utf8")
    named = {
        name: module
        for module, names in re.findall(r"^from ([\w.]+) import (.+)$", stub, re.MULTILINE)
        for name in re.findall(r"(\w+) as \1", names)
    }
    assert named == vars(unetrpp)["_PUBLIC"]
    assert set(unetrpp.__all__) == {*named, "__version__"}


def test_public_names_resolve():
    for name in unetrpp.__all__:
        assert getattr(unetrpp, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        getattr(unetrpp, "nonsense")  # noqa: B009
