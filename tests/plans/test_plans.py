"""The record of decisions: a round trip, what its digest covers, and refusals."""

import msgspec
import pytest

from tests.helpers.fingerprints import case_fingerprint, description, fingerprint
from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.planners.options import Options
from unetrpp.planners.planner import UNetPlanner
from unetrpp.plans.plans import read_plans


@pytest.fixture
def plans():
    cases = [case_fingerprint(shape=(36, 50, 35))] * 6
    return UNetPlanner(Options(batch_size=2)).plan(fingerprint(cases), description(), "unet", ("3d_fullres", "2d"))


def test_a_round_trip(plans, tmp_path):
    write_json(tmp_path / "unet.json", plans)
    assert read_plans(tmp_path / "unet.json") == plans


def test_a_2d_patch_is_a_slice_in_3d(plans):
    full, flat = plans.configuration("3d_fullres"), plans.configuration("2d")
    assert full.patch_3d == full.patch
    assert flat.patch_3d == (1, *flat.patch)
    assert full.patch_spacing_mm == full.preprocessing.spacing_mm
    assert flat.patch_spacing_mm == full.preprocessing.spacing_mm[1:]


def test_the_digest_covers_what_decides_the_voxels_only(plans):
    preprocessing = plans.configuration("3d_fullres").preprocessing
    same = msgspec.structs.replace(preprocessing, chunk=(1, 2, 3))
    other = msgspec.structs.replace(preprocessing, spacing_mm=(2.0, 1.0, 1.0))
    assert same.digest() == preprocessing.digest()
    assert other.digest() != preprocessing.digest()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('"batch_size"', '"batchsize"'), "unknown field `batchsize`"),
        (('"format": 1', '"format": 99'), "install a newer unetrpp"),
        (('"batch_size": 2', '"batch_size": "two"'), "Expected `int`, got `str`"),
    ],
)
def test_a_file_that_was_edited_wrongly(plans, tmp_path, change, words):
    path = tmp_path / "unet.json"
    write_json(path, plans)
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(UserError, match=words):
        read_plans(path)


def test_a_setting_that_was_added_beside_the_old_one(plans, tmp_path):
    path = tmp_path / "unet.json"
    write_json(path, plans)
    path.write_text(
        path.read_text().replace('"training_memory_bytes":', '"training_memory_bytes": 1, "training_memory_bytes":')
    )
    with pytest.raises(UserError, match=r"unet\.json: the key 'training_memory_bytes' is given twice"):
        read_plans(path)


def test_an_unknown_configuration(plans):
    with pytest.raises(UserError, match="is not in the plans 'unet', which have 3d_fullres, 2d"):
        plans.configuration("3d_lowres")


def test_plans_of_another_name_are_offered(plans, tmp_path):
    with pytest.raises(UserError, match=r"unetrpp\.json does not exist; run unetrpp_plan_and_preprocess"):
        read_plans(tmp_path / "unetrpp.json")
    write_json(tmp_path / "unet.json", plans)
    write_json(tmp_path / "splits.json", [])
    with pytest.raises(UserError, match=r"the plans there are called unet \(--plans-name\)"):
        read_plans(tmp_path / "unetrpp.json")


def test_plans_of_nnunet_are_named_as_such(tmp_path):
    write_json(tmp_path / "nnUNetPlans.json", {"dataset_name": "Dataset004_Hippocampus", "plans_name": "nnUNetPlans"})
    with pytest.raises(UserError, match="this is nnU-Net's file: unetrpp_import takes its trained models"):
        read_plans(tmp_path / "nnUNetPlans.json")


def test_a_missing_configuration_is_to_be_planned_and_one_of_another_name_does_not_exist(plans):
    with pytest.raises(UserError, match="plan it with unetrpp_plan_and_preprocess -c 3d_lowres"):
        plans.configuration("3d_lowres")
    with pytest.raises(UserError, match="there are only 3d_fullres, 2d, 3d_lowres, 3d_cascade"):
        plans.configuration("3d_cascade_fullres")
