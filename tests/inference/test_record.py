"""The prediction record: what counts as finished, what is pending, and which files are protected."""

import json

import msgspec
import pytest

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, write_json
from unetrpp.inference import record
from unetrpp.inference.postprocessing import NOTHING, PostProcessing
from unetrpp.inference.record import (
    CaseRecord,
    Member,
    Predictions,
    Progress,
    Settings,
    earlier_runs,
    file_name,
    forget,
    recorded_cases,
    refuse_foreign,
    remove_maps,
    with_earlier,
)
from unetrpp.io.geometry import Geometry

MEMBER = Member(
    model="unet__2d", model_hash="0123456789abcdef", plans="unet", configuration="2d", folds=("0",), checkpoint="final"
)
SETTINGS = Settings(dataset="balls", members=(MEMBER,), mirroring=True, step=0.5, postprocessing=NOTHING)


def case_record(name: str, maps: tuple[str, ...] = ()) -> CaseRecord:
    return CaseRecord(
        output=f"{name}.nii.gz",
        inputs=f"digest of {name}",
        geometry=Geometry(shape_zyx=(1, 2, 3), spacing_zyx_mm=(1.0, 1.0, 1.0)),
        volumes_ml={"ball": 1.5},
        warnings=(),
        seconds=0.25,
        maps=maps,
    )


def predictions(*names: str, pending: tuple[str, ...] = (), settings: Settings = SETTINGS) -> Predictions:
    cases = {name: case_record(name) for name in names}
    return Predictions(version="0", device="cpu", settings=settings, cases=cases, failed={}, pending=pending)


@pytest.fixture
def folder(tmp_path):
    """Two parts: a and b finished by the first, c by the second, which had not written d yet."""
    write_json(tmp_path / file_name("1/2"), predictions("a", "b"))
    write_json(tmp_path / file_name("2/2"), predictions("c", pending=("d.nii.gz",)))
    for name in "abcd":
        (tmp_path / f"{name}.nii.gz").touch()
    return tmp_path


def test_the_finished_cases_of_all_parts_are_found(folder):
    earlier = earlier_runs(folder)
    assert list(earlier) == ["predictions_1_of_2.json", "predictions_2_of_2.json"]
    assert set(recorded_cases(folder, earlier, SETTINGS)) == {"a", "b", "c"}
    (folder / "b.nii.gz").unlink()
    found = recorded_cases(folder, earlier, SETTINGS)
    assert found == {"a": case_record("a"), "c": case_record("c")}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"mirroring": False}, "mirroring"),
        ({"step": 0.25}, "step"),
        ({"members": ()}, "members"),
        ({"postprocessing": PostProcessing(largest_component=((1,),))}, "postprocessing"),
    ],
)
def test_other_settings_are_refused_by_name(folder, change, name):
    other = msgspec.structs.replace(SETTINGS, **change)
    with pytest.raises(UserError, match=rf"other settings \({name}\); choose another folder or --overwrite"):
        recorded_cases(folder, earlier_runs(folder), other)


def test_a_run_that_wrote_nothing_conflicts_with_no_settings(tmp_path):
    write_json(tmp_path / file_name(None), predictions(settings=msgspec.structs.replace(SETTINGS, step=0.25)))
    assert recorded_cases(tmp_path, earlier_runs(tmp_path), SETTINGS) == {}


def test_finished_and_pending_outputs_are_our_own_and_others_are_foreign(folder):
    earlier = earlier_runs(folder)
    refuse_foreign(folder, ["a.nii.gz", "d.nii.gz", "not there.nii.gz"], earlier)
    (folder / "e.nii.gz").touch()
    with pytest.raises(UserError, match=r"holds e.nii.gz, which no predictions.json lists"):
        refuse_foreign(folder, ["a.nii.gz", "e.nii.gz"], earlier)


def test_forgotten_outputs_leave_the_records_and_their_maps_the_folder(folder):
    maps = ("a_entropy.nii.gz", "a_disagreement.nii.gz")
    for name in (*maps, "b_entropy.nii.gz"):
        (folder / name).touch()
    cases = {"a": case_record("a", maps), "b": case_record("b", ("b_entropy.nii.gz",))}
    write_json(folder / file_name("1/2"), msgspec.structs.replace(predictions(), cases=cases))
    forget(folder, earlier_runs(folder), {"a.nii.gz", "c.nii.gz"})
    earlier = earlier_runs(folder)
    assert set(earlier[file_name("1/2")].cases) == {"b"}
    assert earlier[file_name("2/2")].cases == {}
    assert earlier[file_name("2/2")].pending == ("d.nii.gz",)
    assert not any((folder / name).exists() for name in maps)
    assert (folder / "b_entropy.nii.gz").exists()
    assert (folder / "a.nii.gz").exists()  # it is replaced when the case is predicted again
    forget(folder, earlier, {"d.nii.gz"})
    assert list(earlier_runs(folder)) == [file_name("1/2")]  # an empty record is deleted


def test_a_record_that_lists_nothing_to_forget_is_not_written_again(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    forget(folder, earlier_runs(folder), {"e.nii.gz"})
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.json")} == before


def test_maps_that_are_gone_already_do_no_harm(tmp_path):
    remove_maps(tmp_path, [case_record("a", ("a_entropy.nii.gz",))])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../a.nii.gz", "/tmp/a.nii.gz", "..\\a.nii.gz", ""])
def test_a_file_outside_the_folder_makes_a_record_malformed(tmp_path, name):
    content = json.loads(msgspec.json.encode(predictions("a")))
    content["cases"]["a"]["output"] = name
    (tmp_path / file_name(None)).write_text(json.dumps(content))
    with pytest.raises(UserError, match="choose another output folder"):
        earlier_runs(tmp_path)


def test_progress_is_written_at_intervals_and_at_the_end(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("unetrpp.inference.record.time.monotonic", lambda: now[0])
    path = tmp_path / file_name(None)
    progress = Progress(path, SETTINGS, "cpu", cases={}, pending={"a.nii.gz", "b.nii.gz", "c.nii.gz"})
    progress.save()
    assert read_json(path, Predictions).pending == ("a.nii.gz", "b.nii.gz", "c.nii.gz")
    progress.finish("b", case_record("b"))
    assert read_json(path, Predictions).cases == {}
    now[0] += record.RECORD_SECONDS + 1
    progress.finish("a", case_record("a"))
    written = read_json(path, Predictions)
    assert set(written.cases) == {"a", "b"}
    assert written.pending == ("c.nii.gz",)
    progress.failed["c"] = "is empty"
    progress.save()
    assert read_json(path, Predictions).failed == {"c": "is empty"}


def test_maps_of_another_temperature_do_not_stay_beside_new_ones(tmp_path):
    names = ("a_entropy.nii.gz", "a/ball.nii.gz", "a.dcm", "a_probability_1.nii.gz")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    before = msgspec.structs.replace(case_record("a"), maps=names, temperatures=(1.0,))
    now = msgspec.structs.replace(case_record("a"), maps=names[3:], temperatures=(2.5,))
    assert set(with_earlier(now, before, tmp_path).maps) == set(names[1:])
    assert sorted(path.name for path in tmp_path.glob("a*")) == ["a", "a.dcm", "a_probability_1.nii.gz"]
    labels_alone = msgspec.structs.replace(now, maps=(), temperatures=())
    found = with_earlier(labels_alone, before, tmp_path)
    assert (set(found.maps), found.temperatures) == (set(names[1:]), (1.0,))
