"""``--json``: what every command really prints fits the published schema and the types that it is made from."""

import json
import runpy
from pathlib import Path

import jsonschema
import msgspec
import pytest

from tests.helpers.model import give_own_attention, make_model, write_images
from tests.helpers.raw_dataset import write_dataset
from tests.helpers.tiny import workspace_of_balls
from tests.helpers.validated import validated_workspace
from tests.test_options import PARSERS
from unetrpp.__main__ import commands, main
from unetrpp.cli import demo
from unetrpp.core.files import to_json
from unetrpp.core.reply import as_text

ROOT = Path(__file__).parent.parent.parent
MADE = runpy.run_path(str(ROOT / ".ci" / "json_schema.py"))
TYPES: dict[str, dict[str, object]] = MADE["result_types"]()
PUBLISHED = json.loads((ROOT / "docs" / "json.schema.json").read_text(encoding="utf8"))
SMALL = "--patch 8 16 16 --batch-size 2 --width 0.25 --planner unet --processes 1"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a raw dataset, a planned one, models that are trained, validated and attentive, and images."""
    folder = tmp_path_factory.mktemp("json")
    write_dataset(folder / "w" / "raw" / "Blocks")
    workspace_of_balls(folder / "w")
    validated_workspace(folder / "v")
    give_own_attention(make_model(folder / "attentive", folds=1), 0, {"gate@0": 1.0})
    write_images(folder / "images", 2)
    return folder


@pytest.fixture
def ask(place, monkeypatch, capfd):
    """Run a command in the folder and return what it prints, which is one object."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("UNETRPP_WORKSPACE", "w")

    def ask(command: str) -> dict:
        try:
            code: object = main([*command.split(), "--json"])
        except SystemExit as stop:  # as argparse ends
            code = stop.code
        reply = json.loads(capfd.readouterr().out)
        assert reply["exit_code"] == code
        jsonschema.validate(reply, PUBLISHED)
        return reply

    return ask


def result_of(reply: dict, kind: str = "") -> dict:
    """The result, which has every key of its type and no others."""
    assert reply["error"] is None
    wanted = TYPES[reply["command"].split()[0]][kind]
    typed = msgspec.convert(reply["result"], wanted, dec_hook=lambda _, text: Path(text))
    assert json.loads(msgspec.json.encode(typed, enc_hook=as_text)) == reply["result"]
    return reply["result"]


def test_the_published_schema_is_that_of_the_code():
    """`python .ci/json_schema.py` writes it."""
    assert ordered(PUBLISHED) == ordered(json.loads(to_json(MADE["schema"]())))


def ordered(part):
    """A schema with the alternatives of every choice in one order, which differs between versions of msgspec."""
    if isinstance(part, list):
        return [ordered(item) for item in part]
    if not isinstance(part, dict):
        return part
    made = {key: ordered(value) for key, value in part.items()}
    return made | ({"anyOf": sorted(made["anyOf"], key=json.dumps)} if "anyOf" in made else {})


def test_every_command_says_what_it_gives():
    assert {name.removeprefix("unetrpp_").replace("_", "-") for name in TYPES} == {"unetrpp", *commands()}
    jsonschema.Draft202012Validator.check_schema(PUBLISHED)


def test_the_page_names_every_command_and_key():
    page = (ROOT / "docs" / "json.md").read_text(encoding="utf8")
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| `unetrpp")}
    for command, kinds in TYPES.items():
        for kind, made in kinds.items():
            row = rows[f"`{command} {kind}`" if kind else f"`{command}`"]
            fields = getattr(made, "__annotations__", {})
            assert [name for name in fields if f"`{name}`" not in row] == [], command


def test_the_switchboard(ask):
    result = result_of(ask(""))
    assert result["commands"].keys() == commands().keys()
    assert any(line.startswith("Blocks is not planned") for line in result["next"])


def test_conversion(ask, place):
    assert result_of(ask("convert list"), "list")["acdc"]["modality"] == "MR"
    source = place / "w" / "raw" / "Blocks"
    given = f"--images {source}/imagesTr/{{case}}_0000.nii.gz --labels {source}/labelsTr/{{case}}.nii.gz"
    result = result_of(ask(f"convert folder {source} {given} --channel MR --label organ=1 lesion=2 --name Own"))
    assert (result["cases"], result["errors"]) == ([f"case_{i}" for i in range(4)], [])
    assert Path(result["folder"]).name == "Own"


def test_planning_and_its_report(ask, place):
    result = result_of(ask(f"plan-and-preprocess Blocks {SMALL} --plans-name unet"))
    assert (place / result["folder"]).samefile(place / "w" / "preprocessed" / "Blocks")
    assert result["plans"]["configurations"].keys() == {"3d_fullres"}
    report = result_of(ask("plan-report Blocks -p unet --html page.html"))
    assert Path(report["picture"]).is_file()
    assert report["html"] == "page.html"


def test_training(ask):
    options = "--epochs 1 --iterations 1 --device cpu --no-mirroring"
    result = result_of(ask(f"train balls 3d_fullres 0 -p unet {options}"))
    assert result["trained"] == ["0"]
    assert [fold["cases"] for fold in result["cross_validation"]["folds"]] == [1]
    assert result["next"] == f"unetrpp_train balls 3d_fullres -p unet {options}"


def test_prediction_and_its_scores(ask, place):
    model = "v/results/balls/unetrpp__3d_fullres"
    result = result_of(ask(f"predict -i images -o out -m {model} --device cpu --no-mirroring --report"))
    assert result["segmented"] == {f"case_{i}": f"out/case_{i}.nii.gz" for i in range(2)}
    scored = ask(f"evaluate out v/raw/balls/labelsTr --dataset-json {model} --processes 1")
    assert result_of(scored, "PREDICTIONS REFERENCES")["summary"] == json.loads(
        (place / "out/summary.json").read_text()
    )
    assert (
        result_of(ask("evaluate --compare out/summary.json out/summary.json"), "--compare")["mean"]["difference"] == 0
    )
    (place / "images" / "bad_0000.nii.gz").write_bytes(b"no image")
    partly = ask(f"predict -i images -o out -m {model} --device cpu --no-mirroring")
    assert partly["exit_code"] == 1
    assert result_of(partly)["failed"].keys() == {"bad"}
    (place / "images" / "bad_0000.nii.gz").unlink()


def test_scores_and_pages_of_models(ask, place):
    model = "v/results/balls/unetrpp__3d_fullres"
    result = result_of(ask(f"evaluate --model {model}"), "--model")
    assert result["cross_validation"] == json.loads((place / model / "crossval_summary.json").read_text())
    assert result["calibration"] is None
    chosen = result_of(ask("find-best balls --no-pairs --workspace v"))
    assert chosen["selection"] == json.loads(Path(chosen["file"]).read_text())
    assert Path(result_of(ask(f"report {model} --workspace v"))["page"]).is_file()
    image = "images/case_0_0000.nii.gz"
    shown = result_of(ask(f"attention-report attentive/unetrpp__3d_fullres {image} --device cpu -o maps.html"))
    assert (shown["page"], len(shown["modules"])) == ("maps.html", 2)


def test_models_are_sent_and_fetched(ask, place):
    result = result_of(ask("export -m attentive/unetrpp__3d_fullres -o model.zip"))
    assert result == {"files": ["model.zip"], "deployment": None}
    onnx = result_of(ask("export -m attentive/unetrpp__3d_fullres --onnx onnx"))
    assert onnx["deployment"] == json.loads((place / "onnx" / "model.json").read_text())
    (model,) = result_of(ask("import model.zip --workspace fetched"))["models"]
    assert (place / model / "plans.json").is_file()


def test_costs(ask):
    rows = result_of(ask("cost acdc --precision fp32"))
    assert [(row["configuration"], row["cost"]["batch_size"]) for row in rows] == [("acdc", 2)]


def test_the_doctor(ask):
    reply = ask("doctor")
    assert "memory" in {finding["topic"] for finding in reply["result"]["findings"]}
    result_of(reply)


def test_the_demo(ask, place, monkeypatch):
    """Its commands are tested elsewhere; what they print goes to standard error, and their errors are its own."""
    monkeypatch.setattr(demo, "draw_overlays", lambda *_: None)
    monkeypatch.setattr(demo, "mean_dice", lambda _: 0.5)
    monkeypatch.setattr("unetrpp.dataset.synthetic.write_synthetic_dataset", lambda folder, seed: None)
    monkeypatch.setattr(demo, "call", lambda command: main(["cost", "acdc", "--precision", "fp32"]))
    assert result_of(ask("demo"))["mean_dice"] == 0.5
    monkeypatch.setattr(demo, "call", lambda command: main(["cost", "nowhere.json"]))
    reply = ask("demo")
    assert reply["exit_code"] == 2
    assert "nowhere.json is neither a plans file nor a published network" in reply["error"]


def test_completion(ask):
    assert "unetrpp_train" in result_of(ask("completion bash"))["script"]


def test_the_service(ask, monkeypatch):
    """tests/cli/test_serve.py ends a real one."""
    from unetrpp.service.serve import ServiceResult

    answered = ServiceResult(Path("model"), "http://127.0.0.1:8765/", 3)
    monkeypatch.setattr("unetrpp.service.serve.serve", lambda *_, **__: answered)
    assert result_of(ask("serve attentive/unetrpp__3d_fullres"))["requests"] == 3


REFUSED = {
    "train nothing 3d_fullres": "nothing",
    "train": "the following arguments are required: DATASET",
    "predict -i images -o out -m attentive/unetrpp__3d_fullres --stepp 1": "unknown option --stepp",
    "plan-and-preprocess Blocks --batch-size none": "must be a whole number, not 'none'",
    "convert nope": "there is no dataset 'nope'",
    "convert": "the following arguments are required",
    "trian": "unknown command trian; did you mean train?",
}


@pytest.mark.parametrize("command", REFUSED)
def test_a_refusal_is_an_object_too(ask, command):
    reply = ask(command)
    assert (reply["exit_code"], reply["result"]) == (2, None)
    assert REFUSED[command] in reply["error"]


@pytest.mark.parametrize("command", PARSERS)
def test_every_parser_takes_it(command):
    """--json"""
    assert "--json" in PARSERS[command]().format_help()
