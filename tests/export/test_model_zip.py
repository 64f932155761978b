"""A model as a zip: the copy predicts the same, and a zip that was changed is refused and leaves nothing."""

import hashlib
import json
import zipfile

import msgspec
import numpy as np
import pytest
import torch

from tests.helpers.model import PLAN, give_own_attention, make_model, write_images
from unetrpp.cli.export_model import main as export_command
from unetrpp.cli.import_model import main as import_command
from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.export.model_zip import export_model, import_model
from unetrpp.inference.predictor import Predictor
from unetrpp.model.folder import ModelFolder
from unetrpp.plans.plans import read_plans


@pytest.fixture
def model(tmp_path):
    model = make_model(tmp_path / "balls", folds=2)
    path = model / "fold_0" / "checkpoint_final.pt"
    content = torch.load(path, weights_only=True)
    torch.save(content | {"optimizer": torch.zeros(10_000)}, path)
    return model


@pytest.fixture
def exported(model, tmp_path):
    export_model(model, tmp_path / "model.zip")
    return tmp_path / "model.zip"


def rewritten(source, target, change):
    """A copy of the zip in which ``change`` edits the dict of contents."""
    with zipfile.ZipFile(source) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return target


def test_the_copy_predicts_the_same(model, tmp_path, capsys):
    assert export_command(["-m", str(model), "-o", str(tmp_path / "model.zip")]) == 0
    assert import_command([str(tmp_path / "model.zip"), "--workspace", str(tmp_path / "there")]) == 0
    copy = tmp_path / "there" / "results" / "balls" / "unetrpp__3d_fullres"
    assert capsys.readouterr().out.splitlines()[-2] == str(copy)
    image = write_images(tmp_path / "images", 1)[0]
    first, second = (Predictor(m, device="cpu", mirroring=False)(image).array for m in (model, copy))
    np.testing.assert_array_equal(first, second)
    assert "optimizer" not in torch.load(copy / "fold_0" / "checkpoint_final.pt", weights_only=True)
    card = (copy / "MODEL_CARD.md").read_text()
    assert "Not a medical device" in card
    assert "1 ball" in card


def test_folds_of_different_architectures_are_averaged_and_exported(model, tmp_path):
    give_own_attention(model, 1, {"gate@0": 0.7, "se@1": 1.3})
    image = write_images(tmp_path / "images", 1)[0]
    first = Predictor(model, device="cpu", mirroring=False)
    plain, own = (network.state_dict().keys() for network in first.networks)
    assert plain < own
    both = first(image, probabilities=True).probabilities
    each = [
        Predictor(model, folds=[fold], device="cpu", mirroring=False)(image, probabilities=True).probabilities
        for fold in (0, 1)
    ]
    np.testing.assert_allclose(np.asarray(both, float), np.mean(np.asarray(each, float), axis=0), atol=2e-3)
    export_model(model, tmp_path / "model.zip")
    copy = import_model(tmp_path / "model.zip", workspace=tmp_path / "there")
    assert (copy / "fold_1" / "architecture.json").read_bytes() == (model / "fold_1" / "architecture.json").read_bytes()
    card = (copy / "MODEL_CARD.md").read_text()
    assert "- Attention that fold 1 learned (module@level gamma): gate@0 0.70, se@1 1.30" in card
    again = Predictor(copy, device="cpu", mirroring=False)(image, probabilities=True).probabilities
    np.testing.assert_array_equal(np.asarray(again), np.asarray(both))


def test_an_existing_model_is_kept(exported, tmp_path):
    first = import_model(exported, workspace=tmp_path)
    assert import_model(exported, workspace=tmp_path) == first  # the same one: an import that was killed at its end
    (first / "plans.json").write_text("another")
    with pytest.raises(UserError, match="exists already"):
        import_model(exported, workspace=tmp_path)
    assert (first / "plans.json").read_text() == "another"
    target = import_model(exported, workspace=tmp_path, overwrite=True)
    assert [p.name for p in target.parent.iterdir()] == ["unetrpp__3d_fullres"]  # nothing temporary is left


def test_the_same_export_again_is_done_and_another_refused(model, exported):
    written = exported.stat().st_mtime_ns, exported.read_bytes()
    assert export_model(model, exported) == exported  # the export was killed at its end
    assert (exported.stat().st_mtime_ns, exported.read_bytes()) == written
    with pytest.raises(UserError, match="exists already; give another name or --overwrite"):
        export_model(model, exported, folds=[0])
    plans = (model / "plans.json").read_text()
    (model / "plans.json").write_text(plans + "\n")
    with pytest.raises(UserError, match="exists already"):
        export_model(model, exported)
    (model / "plans.json").write_text(plans)
    for damaged in (written[1][:-100], flipped(exported)):
        exported.write_bytes(damaged)
        with pytest.raises(UserError, match="exists already"):
            export_model(model, exported)
        assert exported.read_bytes() == damaged


def flipped(file):
    """The bytes of a zip with a wrong bit in the middle of its largest member."""
    with zipfile.ZipFile(file) as archive:
        largest = max(archive.infolist(), key=lambda info: info.compress_size)
    content = bytearray(file.read_bytes())
    content[largest.header_offset + largest.compress_size // 2] ^= 1
    return bytes(content)


def with_member(name):
    def change(contents):
        contents[name] = b"x"
        manifest = json.loads(contents["manifest.json"])
        manifest["files"][name] = "0" * 64
        contents["manifest.json"] = json.dumps(manifest).encode()

    return change


def test_foreign_members_and_traversal_are_refused(exported, tmp_path):
    for name in (
        "../evil.txt",
        "/etc/evil",
        "fold_0/../../evil",
        "fold_0/code.py",
        "C:\\evil",
        "fold_0/checkpoint_best.pt",
    ):
        bad = rewritten(exported, tmp_path / "bad.zip", with_member(name))
        with pytest.raises(UserError, match="unexpected member"):
            import_model(bad, workspace=tmp_path)
    unlisted = rewritten(exported, tmp_path / "bad.zip", lambda contents: contents.update({"extra.txt": b"x"}))
    with pytest.raises(UserError, match=r"extra\.txt"):
        import_model(unlisted, workspace=tmp_path)
    assert not (tmp_path / "evil.txt").exists()
    assert not any((tmp_path / "results").rglob("*.json"))


@pytest.mark.parametrize("field", ["name", "dataset"])
@pytest.mark.parametrize("value", ["../x__y", "a/b__c", "..", ""])
def test_a_name_that_leaves_the_results_is_refused(exported, tmp_path, field, value):
    def change(contents):
        contents["manifest.json"] = json.dumps(json.loads(contents["manifest.json"]) | {field: value}).encode()

    with pytest.raises(UserError, match="cannot be a folder's name"):
        import_model(rewritten(exported, tmp_path / "bad.zip", change), workspace=tmp_path)


def test_a_model_of_a_free_text_name_is_imported(model, tmp_path):
    """Release 0.1.0 recorded the name in dataset.json, which is free text, as the dataset."""
    plans = json.loads((model / "plans.json").read_text())
    for text, folder in (("KiTS 2023 (kidney)", "KiTS 2023 (kidney)"), ("CT/MR", "CT_MR"), ("../x", "_x")):
        (model / "plans.json").write_text(json.dumps(plans | {"dataset": text}))
        export_model(model, tmp_path / "model.zip", overwrite=True)
        imported = import_model(tmp_path / "model.zip", workspace=tmp_path / "there", overwrite=True)
        assert imported == tmp_path / "there" / "results" / folder / "unetrpp__3d_fullres"


def test_a_model_in_a_workspace_is_of_the_dataset_whose_folder_holds_it(tmp_path):
    model = make_model(tmp_path / "results" / "Dataset120_KiTS", 1)
    (tmp_path / "preprocessed" / "Dataset120_KiTS").mkdir(parents=True)
    export_model(model, tmp_path / "model.zip")
    imported = import_model(tmp_path / "model.zip", workspace=tmp_path / "there")
    assert imported.parent.name == "Dataset120_KiTS"  # although the plans say balls


def test_changed_bytes_size_and_truncation_are_noticed(exported, tmp_path):
    plans = rewritten(exported, tmp_path / "a.zip", lambda c: c.update({"plans.json": c["plans.json"] + b" "}))
    with pytest.raises(UserError, match=r"plans\.json does not match its hash"):
        import_model(plans, workspace=tmp_path)
    with pytest.raises(UserError, match="more than 1e-06 GB"):
        import_model(exported, workspace=tmp_path, largest_gb=1e-6)
    short = tmp_path / "short.zip"
    short.write_bytes(exported.read_bytes()[:5000])
    with pytest.raises(UserError, match="damaged or not a zip file"):
        import_model(short, workspace=tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        import_model(tmp_path / "nowhere.zip", workspace=tmp_path)
    other = tmp_path / "other.zip"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(UserError, match="not an exported model"):
        import_model(other, workspace=tmp_path)
    assert not any((tmp_path / "results").rglob("*.pt"))


def test_the_manifest_lists_every_member_with_its_hash(exported):
    with zipfile.ZipFile(exported) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(contents.pop("manifest.json"))
    assert manifest["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    assert (manifest["name"], manifest["dataset"]) == ("unetrpp__3d_fullres", "balls")


def test_a_renamed_model_gets_its_own_name_back(model, tmp_path):
    export_model(model.rename(model.parent / "best_model__3d_fullres"), tmp_path / "model.zip")
    assert import_model(tmp_path / "model.zip", workspace=tmp_path).name == "unetrpp__3d_fullres"


def test_a_refused_zip_replaces_nothing(exported, tmp_path):
    target = import_model(exported, workspace=tmp_path)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    bad = rewritten(exported, tmp_path / "bad.zip", lambda c: c.update({"plans.json": b"{}"}))
    with pytest.raises(UserError, match="does not match its hash"):
        import_model(bad, workspace=tmp_path, overwrite=True)
    assert {path: path.read_bytes() for path in target.rglob("*") if path.is_file()} == before
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_cascade_without_its_first_stage_is_refused(tmp_path):
    second = make_model(tmp_path, 1, msgspec.structs.replace(PLAN, first_stage="3d_lowres"), "3d_cascade")
    make_model(tmp_path, 1, name="3d_lowres").rename(second / "previous_stage")
    export_model(second, tmp_path / "model.zip")
    first = import_model(tmp_path / "model.zip", workspace=tmp_path).joinpath("previous_stage", "fold_0")
    assert (first / "checkpoint_final.pt").is_file()

    def without_first_stage(contents):
        manifest = json.loads(contents["manifest.json"])
        for name in [name for name in contents if name.startswith("previous_stage/")]:
            del contents[name], manifest["files"][name]
        contents["manifest.json"] = json.dumps(manifest).encode()

    bad = rewritten(tmp_path / "model.zip", tmp_path / "bad.zip", without_first_stage)
    with pytest.raises(UserError, match="second stage without previous_stage/"):
        import_model(bad, workspace=tmp_path / "elsewhere")
    assert not list((tmp_path / "elsewhere").rglob("*.json"))


def test_too_many_members_and_too_large_records_are_refused(exported, tmp_path, monkeypatch):
    monkeypatch.setattr("unetrpp.export.manifest.LARGEST_RECORD", 2000)
    with pytest.raises(UserError, match="too large for a record"):
        import_model(exported, workspace=tmp_path)
    monkeypatch.setattr("unetrpp.export.manifest.MOST_FILES", 3)
    with pytest.raises(UserError, match="more than 3; export fewer folds"):
        import_model(exported, workspace=tmp_path)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("manifest", [b"", b"[]", b'{"format": 1}', b'{"files": {}, "extra": 1}'])
def test_a_manifest_of_another_form_is_refused(exported, tmp_path, manifest):
    bad = rewritten(exported, tmp_path / "bad.zip", lambda c: c.update({"manifest.json": manifest}))
    with pytest.raises(UserError, match="export the model again"):
        import_model(bad, workspace=tmp_path)


def test_an_untrained_fold_is_not_exported(model, tmp_path):
    with pytest.raises(UserError, match="fold 7"):
        export_model(model, tmp_path / "model.zip", folds=[0, 7])
    assert not list(tmp_path.glob("*.zip"))


@pytest.mark.parametrize(("name", "imported"), [("w:2", "w_2"), ("a?", "a_"), ("con.1", "_con.1")])
def test_names_that_windows_does_not_take_are_changed(model, tmp_path, name, imported):
    path = model / "plans.json"
    write_json(path, msgspec.structs.replace(read_plans(path), name=name, dataset="T2: PZ"))
    for _ in range(2):
        export_model(model, tmp_path / "model.zip")
    copy = import_model(tmp_path / "model.zip", workspace=tmp_path)
    assert copy == tmp_path / "results" / "T2_ PZ" / f"{imported}__3d_fullres"
    assert ModelFolder.open(copy).configuration_name == "3d_fullres"


def test_a_zip_of_a_system_that_takes_any_name_is_imported(exported, tmp_path):
    """Release 0.1.0 kept such names."""

    def change(contents):
        manifest = json.loads(contents["manifest.json"]) | {"name": "D:evil__3d_fullres", "dataset": "T2: PZ"}
        contents["manifest.json"] = json.dumps(manifest).encode()

    copy = import_model(rewritten(exported, tmp_path / "old.zip", change), workspace=tmp_path)
    assert copy == tmp_path / "results" / "T2_ PZ" / "D_evil__3d_fullres"
