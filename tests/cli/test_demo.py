"""The demo: the commands it calls, its exit code, and its pictures and summary. .ci/run runs it completely."""

import numpy as np

from unetrpp.cli import demo
from unetrpp.io.images import read_label, write_segmentation


def test_a_failing_command_ends_the_demo_with_its_exit_code(tmp_path, monkeypatch, capsys):
    called = []

    def call(command):
        called.append(command[0])
        return 2 if command[0] == "train" else 0

    monkeypatch.setattr(demo, "call", call)
    monkeypatch.setattr("unetrpp.dataset.synthetic.write_synthetic_dataset", lambda folder, seed: None)
    assert demo.main(["--folder", str(tmp_path)]) == 2
    assert called == ["plan_and_preprocess", "train"]
    assert "mean Dice" not in capsys.readouterr().out


def test_pictures_and_the_last_line_come_from_the_written_files(tmp_path, monkeypatch, capsys):
    """Prediction and evaluation are the real ones; the 'model' copies the references and misses one class of one case."""
    from unetrpp.__main__ import main as switchboard
    from unetrpp.dataset.synthetic import write_synthetic_dataset

    raw, predictions = tmp_path / "workspace/raw/synthetic", tmp_path / "predictions"
    monkeypatch.setattr(
        "unetrpp.dataset.synthetic.write_synthetic_dataset",
        lambda folder, seed: write_synthetic_dataset(folder, 1, 2, seed),
    )

    def call(command):
        if command[0] == "predict":
            for path in sorted((raw / "labelsTs").iterdir()):
                label = read_label(path)
                array = label.array[0].copy()
                array[(array == 3) & (path.name == "case_001.nii.gz")] = 0
                write_segmentation(predictions / path.name, array.astype(np.uint8), label.geometry)
        return switchboard([*command, "--processes=1"]) if command[:2] == ["evaluate", str(predictions)] else 0

    monkeypatch.setattr(demo, "call", call)
    assert demo.main(["--folder", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"mean Dice {(1 + 1 + 0.5) / 3:.3f}"
    assert [p.name for p in sorted((tmp_path / "overlays").iterdir())] == ["case_001.png", "case_002.png"]
