"""A released checkpoint becomes a model folder that predicts; what does not fit is refused and leaves nothing."""

import pytest
import torch

from tests.helpers.model import GEOMETRY, make_model, write_images
from tests.helpers.released import write_released_checkpoint
from unetrpp.core.errors import UserError
from unetrpp.export.released import import_released
from unetrpp.inference.predictor import Predictor
from unetrpp.model.folder import ModelFolder
from unetrpp.plans.plans import read_plans


@pytest.fixture
def plans(tmp_path):
    return make_model(tmp_path / "balls", folds=0) / "plans.json"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("released")
    plans = read_plans(make_model(folder, folds=0) / "plans.json")
    return write_released_checkpoint(folder / "final.model", plans, "acdc")


def test_with_plans_it_predicts(tmp_path, plans, checkpoint):
    target = import_released(checkpoint, preset="acdc", plans=plans, workspace=tmp_path)
    assert target == tmp_path / "results" / "balls" / "released_acdc__3d_fullres"
    model = ModelFolder.open(target)
    assert model.folds() == ["all"]
    assert model.configuration.patch == (16, 160, 160)
    assert model.configuration.architecture.spatial_layout == "released"
    assert "final.model" in model.configuration.decisions[0].why
    image = write_images(tmp_path / "images", 1)[0]
    segmentation = Predictor(target, device="cpu", mirroring=False)(image)
    assert segmentation.array.shape == GEOMETRY.shape_zyx


def test_an_existing_model_is_kept_unless_it_is_to_be_overwritten(tmp_path, plans, checkpoint):
    target = tmp_path / "results" / "balls" / "released_acdc__3d_fullres"
    target.mkdir(parents=True)
    (target / "mine").touch()
    with pytest.raises(UserError, match="--overwrite"):
        import_released(checkpoint, preset="acdc", plans=plans, workspace=tmp_path)
    (plans.parent / "fingerprint.json").rename(tmp_path / "aside")
    with pytest.raises(UserError, match=r"has no fingerprint\.json"):
        import_released(checkpoint, preset="acdc", plans=plans, workspace=tmp_path, overwrite=True)
    assert [path.name for path in target.iterdir()] == ["mine"]  # what failed has replaced nothing
    (tmp_path / "aside").rename(plans.parent / "fingerprint.json")
    description = plans.parent / "dataset.json"
    right = description.read_text()
    description.write_text(right.replace('"ball"', '"cube"'))
    with pytest.raises(UserError, match=r"was made for other labels than dataset\.json beside it has now"):
        import_released(checkpoint, preset="acdc", plans=plans, workspace=tmp_path, overwrite=True)
    description.write_text(right)
    import_released(checkpoint, preset="acdc", plans=plans, workspace=tmp_path, overwrite=True)
    assert ModelFolder.open(target).folds() == ["all"]
    assert [path.name for path in target.parent.iterdir()] == [target.name]  # nothing temporary is left


def test_the_same_import_again_is_done_and_another_refused(tmp_path, plans, checkpoint):
    target = import_released(checkpoint, preset="acdc", plans=plans, workspace=tmp_path)
    written = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    assert import_released(checkpoint, preset="acdc", plans=plans, workspace=tmp_path) == target
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == written
    fingerprint = target / "fingerprint.json"
    fingerprint.write_text(fingerprint.read_text() + "\n")
    with pytest.raises(UserError, match="exists already; remove it or import with --overwrite"):
        import_released(checkpoint, preset="acdc", plans=plans, workspace=tmp_path)
    fingerprint.write_text(fingerprint.read_text()[:-1])
    content = torch.load(target / "fold_all" / "checkpoint_final.pt", weights_only=True)
    next(iter(content["network"].values())).view(-1)[0] += 1
    torch.save(content, target / "fold_all" / "checkpoint_final.pt")
    with pytest.raises(UserError, match="exists already"):
        import_released(checkpoint, preset="acdc", plans=plans, workspace=tmp_path)


@pytest.mark.parametrize(
    ("preset", "configuration", "message"),
    [("synapse", None, "choose another"), ("acdc", "2d", "2d"), ("acdc", "3d_fullres", "does not exist")],
)
def test_what_does_not_fit_is_refused(tmp_path, plans, checkpoint, preset, configuration, message):
    file = tmp_path / "nowhere.model" if "exist" in message else checkpoint
    with pytest.raises(UserError, match=message):
        import_released(file, preset=preset, plans=plans, configuration=configuration, workspace=tmp_path)
    assert not list(tmp_path.rglob("*.pt"))
