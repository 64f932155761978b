"""`unetrpp_export`: a zip or a folder of ONNX files, what is printed, and exit codes."""

import zipfile

import pytest

from tests.helpers.model import give_own_attention, make_model, make_model_2d
from unetrpp.cli.export_model import main


def members(path):
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_a_zip_and_its_size(tmp_path, capsys):
    target = tmp_path / "there" / "model.zip"
    assert main(["-m", str(make_model(tmp_path, folds=3)), "-o", str(target), "--folds", "0", "2"]) == 0
    megabytes = target.stat().st_size / 1e6
    following = f"next: unetrpp_import {target} (where the model is to predict)"
    assert capsys.readouterr().out == f"{target} ({megabytes:.1f} MB)\n{following}\n"
    weights = {name for name in members(target) if name.endswith(".pt")}
    assert weights == {"fold_0/checkpoint_final.pt", "fold_2/checkpoint_final.pt"}
    assert list(target.parent.iterdir()) == [target]  # nothing temporary is left


def test_folds_are_chosen_by_name_and_range_and_printed(tmp_path, caplog, capsys):
    model, target = make_model(tmp_path, folds=3), tmp_path / "model.zip"
    (model / "fold_2").rename(model / "fold_all")
    assert main(["-m", str(model), "-o", str(target), "--folds", "all"]) == 2
    assert "give --folds fold_all or --folds 0-1" in capsys.readouterr().err
    assert not target.exists()
    for asked, named in ((["0-1"], "0-1"), (["fold_all"], "fold_all"), (["1", "fold_all"], "1 fold_all"), ([], "0-1")):
        caplog.clear()
        assert main(["-m", str(model), "-o", str(target), "--overwrite", *(["--folds", *asked] if asked else [])]) == 0
        assert f"folds exported: {named}" in caplog.text
        weights = {name.split("/")[0] for name in members(target) if name.endswith(".pt")}
        assert weights == {f"fold_{fold}" for fold in {"0-1": "01", "1 fold_all": ["1", "all"]}.get(named, ["all"])}


def test_the_chosen_checkpoint_becomes_the_final_one(tmp_path, capsys):
    model, target = make_model(tmp_path, folds=1), tmp_path / "best.zip"
    assert main(["-m", str(model), "-o", str(target), "--checkpoint", "best"]) == 2
    assert "has no checkpoint_best.pt" in capsys.readouterr().err
    assert not target.exists()
    (model / "fold_0" / "checkpoint_final.pt").rename(model / "fold_0" / "checkpoint_best.pt")
    assert main(["-m", str(model), "-o", str(target), "--checkpoint", "best"]) == 0
    assert "fold_0/checkpoint_final.pt" in members(target)


def test_a_file_is_replaced_only_when_asked_to(tmp_path, capsys):
    target = tmp_path / "model.zip"
    target.write_bytes(b"something else")
    arguments = ["-m", str(make_model(tmp_path, folds=1)), "-o", str(target)]
    assert main(arguments) == 2
    assert "exists already; give another name or --overwrite" in capsys.readouterr().err
    assert target.read_bytes() == b"something else"
    assert main([*arguments, "--overwrite"]) == 0
    assert "plans.json" in members(target)
    assert main([*arguments[:-1], str(tmp_path), "--overwrite"]) == 2
    assert "give the name of a file" in capsys.readouterr().err


@pytest.mark.slow
def test_onnx_files_of_every_fold_with_its_own_attention(tmp_path, capsys):
    model = make_model(tmp_path, folds=2)
    give_own_attention(model, 1, {"gate@0": 0.7})
    target = tmp_path / "there" / "onnx"
    assert main(["-m", str(model), "--onnx", str(target)]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == [str(target / f"fold_{fold}.onnx") for fold in (0, 1)]
    assert "Warning" not in err
    assert sorted(p.name for p in target.iterdir()) == [
        *("MODEL_CARD.md", "fold_0.onnx", "fold_1.onnx", "metadata.json", "model.json")
    ]
    assert list(target.parent.iterdir()) == [target]  # nothing temporary is left
    assert "model.json" in (target / "MODEL_CARD.md").read_text()
    sizes = [(target / f"fold_{fold}.onnx").stat().st_size for fold in (0, 1)]
    assert sizes[0] < sizes[1]
    assert not any(b"ball_0" in path.read_bytes() for path in target.iterdir())


def test_a_folder_that_is_not_empty_is_kept(tmp_path, capsys):
    target = tmp_path / "onnx"
    target.mkdir()
    (target / "mine").touch()
    arguments = ["-m", str(make_model_2d(tmp_path)), "--onnx", str(target)]
    assert main(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 2
    assert "exists already; give another folder" in capsys.readouterr().err
    assert [path.name for path in target.iterdir()] == ["mine"]


def test_an_earlier_export_is_replaced_only_when_asked_to(tmp_path, capsys):
    target = tmp_path / "onnx"
    arguments = ["-m", str(make_model_2d(tmp_path)), "--onnx", str(target)]
    assert main(arguments) == 0
    (target / "fold_9.onnx").touch()  # of a fold that the model no longer has
    assert main(arguments) == 2
    assert "replace it with --overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0
    assert sorted(path.name for path in target.iterdir()) == [
        *("MODEL_CARD.md", "fold_0.onnx", "metadata.json", "model.json")
    ]


@pytest.mark.parametrize("arguments", [[], ["-o", "x.zip", "--onnx", "folder"]])
def test_either_a_zip_or_a_folder_is_written(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["-m", str(tmp_path), *arguments])
    assert stop.value.code == 2
    assert "--onnx" in capsys.readouterr().err


def test_a_folder_that_is_not_a_model_is_refused(tmp_path, capsys):
    assert main(["-m", str(tmp_path), "-o", str(tmp_path / "x.zip")]) == 2
    assert "model folder" in capsys.readouterr().err
    assert not (tmp_path / "x.zip").exists()
