"""unetrpp_plan_and_preprocess over every defect of a raw dataset: one table and nothing started, or named omissions."""

import shutil

import pytest

from tests.helpers.folder_defects import DEFECTS, add_what_does_not_count
from tests.helpers.raw_dataset import make_case, write_case, write_dataset
from unetrpp.core.files import read_json
from unetrpp.dataset.splits import Splits
from unetrpp.io.images import read_label
from unetrpp.planners.pipeline import plan_and_preprocess
from unetrpp.planners.plan_and_preprocess import main
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.preprocessing.store import Store


@pytest.fixture
def raw(tmp_path):
    return write_dataset(tmp_path / "raw" / "Blocks", cases=3)


def run(raw, *more):
    return main([str(raw), "--workspace", str(raw.parent.parent), "--planner", "unet", "--processes", "1", *more])


def measured(raw):
    return read_json(raw.parent.parent / "preprocessed" / "Blocks" / "fingerprint.json", Fingerprint)


def test_what_does_not_count_changes_nothing(raw, caplog):
    for part in ("imagesTr", "labelsTr"):
        add_what_does_not_count(raw / part)
    assert run(raw, "--plan-only") == 0
    assert "problem" not in caplog.text
    assert [case.case for case in measured(raw).cases] == ["case_0", "case_1", "case_2"]


@pytest.mark.parametrize("kind", DEFECTS)
def test_every_defect_is_an_error_or_a_named_omission(raw, caplog, capsys, kind):
    make, name = DEFECTS[kind]
    shutil.copyfile(raw / "imagesTr" / "case_0_0000.nii.gz", raw / "spare.nii.gz")
    write_case(raw, "a", *make_case(20))
    make(raw / "imagesTr", raw / "spare.nii.gz")
    assert run(raw, "--plan-only") == 2
    assert "nothing was started" in capsys.readouterr().err
    assert not (raw.parent.parent / "preprocessed").exists()
    for _ in range(2):  # measured, and taken from disk
        caplog.clear()
        assert run(raw, "--plan-only", "--skip-unreadable") == 0
        rows = [line.split() for line in caplog.text.splitlines()]
        assert any(row[0] == "warning" and row[1].removeprefix("imagesTr/").startswith(name) for row in rows if row)
        assert [case.case for case in measured(raw).cases] == ["a", "case_0", "case_1", "case_2"]
    assert run(raw, "--plan-only") == 2  # what was left out once is an error again


def test_labels_and_images_without_a_partner_are_left_out_of_everything(raw):
    (raw / "labelsTr" / "case_0.nii.gz").rename(raw / "labelsTr" / "x.nii.gz")
    assert run(raw) == 2
    with pytest.raises(SystemExit):
        run(raw, "--skip-unreadble")
    done = plan_and_preprocess(raw, workspace=raw.parent.parent, planner="unet", processes=1, skip_unreadable=True)
    assert done.left_out.keys() == {"case_0", "x"}
    assert "x_0000.nii.gz does not exist" in done.left_out["x"]
    assert Store(done.folder / "unet_3d_fullres").cases() == ["case_1", "case_2"]
    splits = read_json(done.folder / "splits.json", Splits)
    assert {case for fold in splits.folds for case in (*fold.train, *fold.validation)} == {"case_1", "case_2"}


def test_a_repaired_case_is_measured_and_no_longer_left_out(raw):
    label = raw / "labelsTr" / "case_0.nii.gz"
    whole = label.read_bytes()
    label.write_bytes(whole[:-20])
    assert run(raw, "--plan-only", "--skip-unreadable") == 0
    assert measured(raw).left_out.keys() == {"case_0"}
    label.write_bytes(whole)
    assert read_label(label)
    assert run(raw, "--plan-only") == 0
    assert measured(raw).left_out == {}
    assert len(measured(raw).cases) == 3


def test_an_image_that_was_added_to_a_measured_dataset_is_not_passed_over(raw, capsys):
    assert run(raw, "--plan-only") == 0
    shutil.copyfile(raw / "imagesTr" / "case_0_0000.nii.gz", raw / "imagesTr" / "case_9.nii.gz")
    assert run(raw, "--plan-only") == 2
    assert (
        "imagesTr/case_9.nii.gz: has no channel number in its name; rename it to case_9_0000" in capsys.readouterr().err
    )


@pytest.mark.parametrize(("name", "content"), [("x.nrrd", b"x"), ("more/case_0.nii.gz", b"x"), ("IM1.dcm", b"x")])
def test_a_label_that_no_case_has_is_an_error(raw, capsys, name, content):
    (raw / "labelsTr" / name).parent.mkdir(exist_ok=True)
    (raw / "labelsTr" / name).write_bytes(content)
    assert run(raw, "--plan-only") == 2
    assert f"labelsTr/{name.partition('/')[0]}: " in capsys.readouterr().err


def test_a_dataset_without_one_sound_case_is_refused(raw, capsys):
    for path in (raw / "imagesTr").iterdir():
        path.write_bytes(b"")
    assert run(raw, "--skip-unreadable") == 2
    assert "is empty (0 bytes)" in capsys.readouterr().err
