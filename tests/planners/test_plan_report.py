"""The plan report: its text, its picture, and missing plans."""

from tests.helpers.fingerprints import case_fingerprint, class_statistics, description, fingerprint
from tests.helpers.html import require_self_contained
from unetrpp.core.files import write_json
from unetrpp.dataset.splits import make_splits
from unetrpp.io.images import read_file
from unetrpp.planners.plan_report import main
from unetrpp.planners.planner import UNetPlanner
from unetrpp.planners.report.write import write_plan_report


def test_the_report_names_every_decision_and_draws_a_picture(tmp_path, capsys):
    classes = {"organ": class_statistics(extent=(1, 1, 1))}
    cases = [case_fingerprint(shape=(300 + i, 512, 512), spacing=(2.0, 0.8, 0.8), classes=classes) for i in range(6)]
    measured = fingerprint(cases)
    plans = UNetPlanner().plan(measured, description(), "unet", ("3d_fullres", "2d"))
    home = tmp_path / "preprocessed" / "Made"
    write_json(home / "fingerprint.json", measured)
    write_json(home / "unet.json", plans)
    write_json(home / "splits.json", make_splits(["a", "b", "c"]))
    assert main(["Made", "--workspace", str(tmp_path), "--plans-name", "unet"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for configuration in plans.configurations.values():
        for decision in (*plans.decisions, *configuration.decisions):
            assert decision.value in printed
            assert " ".join(decision.why.split()) in printed
    assert "folds: 3 cases shuffled with seed 12345" in printed
    assert all(warning in printed for warning in plans.warnings)
    assert read_file(home / "unet_report.png").array.shape[2] > 500
    report = write_plan_report("Made", workspace=str(tmp_path), plans_name="unet", picture=tmp_path / "elsewhere.png")
    assert " ".join(report.text.split()) in printed
    assert report.picture == tmp_path / "elsewhere.png"
    assert read_file(report.picture).array.shape[2] > 500
    assert report.html is None


def test_html_writes_one_page_and_replaces_nothing_else(tmp_path, capsys):
    measured = fingerprint([case_fingerprint(f"case_{i}") for i in range(3)])
    home, page = tmp_path / "preprocessed" / "Made", tmp_path / "plan.html"
    write_json(home / "fingerprint.json", measured)
    write_json(home / "unet.json", UNetPlanner().plan(measured, description(), "unet", ("3d_fullres",)))
    write_json(home / "splits.json", make_splits(["a", "b", "c"]))
    command = ["Made", "--workspace", str(tmp_path), "-p", "unet", "--html"]
    assert main([*command, str(page)]) == 0
    assert f"page: {page}" in capsys.readouterr().out
    assert "3 cases shuffled" in require_self_contained(page.read_text()).text
    assert write_plan_report("Made", workspace=tmp_path, plans_name="unet", html=page).html == page
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    assert main([*command, str(other)]) == 2
    assert other.read_text() == "mine"


def test_missing_plans(tmp_path, capsys):
    (tmp_path / "preprocessed" / "Made").mkdir(parents=True)
    assert main(["Made", "--workspace", str(tmp_path)]) == 2
    assert "run unetrpp_plan_and_preprocess" in capsys.readouterr().err
