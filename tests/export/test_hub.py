"""Models on the Hugging Face Hub: the real huggingface_hub against a server on this machine.

It reads its settings when it is imported, so the commands of each setting run in a process of their own.
"""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers.hub_server import hub_server
from tests.helpers.model import make_model
from unetrpp.core.errors import UserError
from unetrpp.export.hub import FILE, HubAddress, fetch_model
from unetrpp.model.folder import ModelFolder

ROOT = Path(__file__).parents[2]
TOKEN = "hf_thisIsTheSecretToken"
DRIVER = """
import contextlib, io, json, sys
from unetrpp.__main__ import main
for command in json.loads(sys.stdin.read()):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            code = main(command)
        except Exception:  # with --debug
            import traceback
            traceback.print_exc()
            code = 1
    print(json.dumps([code, out.getvalue()]))
"""
needs_hub = pytest.mark.skipif(
    importlib.util.find_spec("huggingface_hub") is None,
    reason='huggingface_hub is an extra: pip install "unetrpp[hub]"',
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("balls"), folds=2)


@pytest.fixture
def hub():
    with hub_server() as server:
        yield server


@pytest.fixture
def run(hub, tmp_path):
    """Runs commands, one after the other, in a new process; returns the exit code and the output of each."""

    def run(*commands: str, token: str | None = None, **settings: str) -> list[tuple[int, str]]:
        own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        environment = clean | own | settings | ({} if token is None else {"HF_TOKEN": token})
        environment |= {"PYTHONPATH": str(ROOT), "UNETRPP_WORKSPACE": str(tmp_path / "workspace")}
        given = json.dumps([command.split() for command in commands])
        done = subprocess.run(
            [sys.executable, "-c", DRIVER], input=given, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(answers) == len(commands)
        return [(code, text) for code, text in answers]

    return run


def last_line(answer: tuple[int, str]) -> str:
    return answer[1].splitlines()[-1]


def is_published(answer: tuple[int, str], address: str) -> bool:
    """The export ended well with the address and what imports it."""
    told = [address, f"next: unetrpp_import {address} (where the model is to predict)"]
    return answer[0] == 0 and answer[1].splitlines()[-2:] == told


@needs_hub
@pytest.mark.slow
def test_a_model_is_published_once_and_imported_by_revision(trained, hub, run, tmp_path):
    export = f"export -m {trained} -o hf://clinic/balls"
    first, again, other, new = run(
        export, export, f"{export} --folds 0", f"{export} --folds 0 --overwrite", token="any"
    )
    (one, files), (two, _) = hub.repositories["clinic/balls"]
    assert is_published(first, f"hf://clinic/balls@{one}")
    assert is_published(again, f"hf://clinic/balls@{one}")
    assert other[0] == 2
    assert "hf://clinic/balls holds another model already" in last_line(other)
    assert is_published(new, f"hf://clinic/balls@{two}")
    assert hub.private == {"clinic/balls": True}
    assert files["README.md"].decode().startswith("---\nlibrary_name: unetrpp\n")
    assert "unetrpp_import hf://clinic/balls\n" in files["README.md"].decode()
    assert "research use" in files["README.md"].decode()

    hub.tags["v1"] = one
    newest, old = run("import hf://clinic/balls", "import hf://clinic/balls@v1 --name Old")
    results = tmp_path / "workspace" / "results"
    assert [answer[0] for answer in (newest, old)] == [0, 0]
    model = results / "balls" / "unetrpp__3d_fullres"
    assert newest[1].splitlines() == [str(model), f"next: unetrpp_predict -i IMAGES -o OUT -m {model}"]
    assert ModelFolder.open(model).folds() == ["0"]
    imported = ModelFolder.open(results / "Old" / "unetrpp__3d_fullres")
    assert imported.folds() == ["0", "1"]
    (tmp_path / "first.zip").write_bytes(files[FILE])
    with zipfile.ZipFile(tmp_path / "first.zip") as archive:
        hashes = json.loads(archive.read("manifest.json"))["files"]
    assert {name: hashlib.sha256((imported.path / name).read_bytes()).hexdigest() for name in hashes} == hashes


@needs_hub
@pytest.mark.slow
def test_the_cache_serves_offline_and_is_compared_with_its_hash(trained, hub, run, tmp_path):
    (published,) = run(f"export -m {trained} -o hf://clinic/balls", token="any")
    assert published[0] == 0
    commit = hub.repositories["clinic/balls"][0][0]
    (online,) = run("import hf://clinic/balls")
    assert online[0] == 0
    seen = len(hub.requests)
    offline, by_commit, missing, export = run(
        "import hf://clinic/balls --name Again",
        f"import hf://clinic/balls@{commit} --name Third",
        "import hf://clinic/other",
        f"export -m {trained} -o hf://clinic/balls",
        HF_HUB_OFFLINE="1",
    )
    assert (offline[0], by_commit[0], len(hub.requests)) == (0, 0, seen)
    assert (missing[0], export[0]) == (2, 2)
    assert "the cache does not hold it; check the connection and HF_HUB_OFFLINE" in last_line(missing)
    assert "HF_HUB_OFFLINE is set, and an export needs the hub" in last_line(export)

    (blob,) = [path for path in (tmp_path / "hf" / "hub").rglob("blobs/*") if path.is_file()]
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    (damaged,) = run("import hf://clinic/balls --name Fourth", HF_HUB_OFFLINE="1")
    assert damaged[0] == 2
    assert f"{blob} does not match its hash; delete this file and import again" in last_line(damaged)
    assert not (tmp_path / "workspace" / "results" / "Fourth").exists()


@needs_hub
@pytest.mark.slow
def test_a_changed_member_is_refused_by_the_manifest(trained, hub, run, tmp_path):
    run(f"export -m {trained} -o hf://clinic/balls", token="any")
    original, changed = tmp_path / "original.zip", tmp_path / "changed.zip"
    original.write_bytes(hub.repositories["clinic/balls"][0][1][FILE])
    with zipfile.ZipFile(original) as source, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content + b"!" if name == "MODEL_CARD.md" else content)
    hub.commit("clinic/balls", {FILE: changed.read_bytes()})
    (answer,) = run("import hf://clinic/balls")
    assert answer[0] == 2
    assert "MODEL_CARD.md does not match its hash" in last_line(answer)


@needs_hub
@pytest.mark.slow
def test_every_refusal_is_one_sentence_and_no_output_holds_the_token(trained, hub, run):
    hub.token = TOKEN
    export = f"export -m {trained} -o hf://clinic/balls"
    (done,) = run(export, token=TOKEN)
    assert done[0] == 0
    hub.repositories["clinic/empty"] = []
    wrong = f"{TOKEN}But1tIsAnother"
    refused = {
        "import hf://clinic/none": "does not exist, or is private; check the name, and log in with `hf auth login`",
        "import hf://clinic/balls@v9": "there is no such revision",
        "import hf://clinic/empty": "holds no model.zip; it was not written by unetrpp_export",
        "import hf://clinic/balls/more": "is not an address of the hub; give hf://OWNER/NAME or",
        "import hf://clinic/-balls-": "the hub allows no such name",
        "import hf://clinic/balls --preset acdc": "--preset is for the file of a released checkpoint",
        f"{export}@main": "leave @main out",
    }
    answers = run(*refused, token=TOKEN) + run("import hf://clinic/balls", export, f"{export} --debug", token=wrong)
    for (code, text), message in zip(answers, refused.values(), strict=False):
        assert code == 2
        assert message in text
        assert len(text.splitlines()) == 1
    assert [code for code, _ in answers[-3:]] == [2, 2, 1]
    assert "does not exist, or is private" in answers[-3][1]
    hub.fails = 403
    (forbidden,) = run(export, token=TOKEN)
    assert "the hub answered 403; log in" in last_line(forbidden)
    assert "with a token that may write there" in last_line(forbidden)
    assert not [text for _, text in [done, *answers, forbidden] if TOKEN in text]


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r'needs the package huggingface_hub; pip install "unetrpp\[hub\]"'):
        fetch_model("hf://clinic/balls")


@pytest.mark.parametrize("text", ["hf://", "hf://one", "hf://a/b/c", "hf://a/b@", "hf://a b/c", "HF://a/b"])
def test_other_addresses_are_refused(text):
    with pytest.raises(UserError, match="is not an address of the hub"):
        HubAddress.parse(text)
