"""Cases spread over processes: the same files as from one process, and an error or a killed process costs one case."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import SimpleITK as sitk
import torch

from tests.helpers.model import make_model, write_images
from unetrpp.cli.predict import main
from unetrpp.core.errors import UserError
from unetrpp.inference import devices, stream
from unetrpp.inference.predict import predict


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("results"), folds=1)


@pytest.fixture
def images(tmp_path):
    write_images(tmp_path / "images", 4)
    return tmp_path / "images"


def record_of(out):
    """The prediction record without the seconds."""
    record = json.loads((out / "predictions.json").read_text())
    for case in record["cases"].values():
        assert case.pop("seconds") >= 0
    return record


def files_of(out):
    return {path.name: path.read_bytes() for path in out.iterdir() if not path.name.startswith("predictions")}


@pytest.fixture
def one_thread():
    """As in each of the processes that share two cores: maps depend on the number of threads by rounding."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_two_processes_write_what_one_writes(model, images, tmp_path, caplog, capsys):
    """A damaged case and the warnings included; afterwards, everything is finished for either."""
    (images / "case_1_0000.nii.gz").write_bytes(b"")
    odd = sitk.ReadImage(str(images / "case_2_0000.nii.gz"))
    odd.SetSpacing((0.1, 0.9, 1.5))
    sitk.WriteImage(odd, str(images / "case_2_0000.nii.gz"))
    arguments = ["-i", str(images), "-m", str(model), "--no-mirroring", "--uncertainty", "-o"]
    told = []
    for out, on in ("one", ["--device", "cpu"]), ("two", ["--devices", "cpu,cpu"]):
        caplog.clear()
        assert main([*arguments, str(tmp_path / out), *on]) == 1
        said = capsys.readouterr()
        told.append((sorted(caplog.messages), said.out.replace(str(tmp_path / out), "OUT"), said.err))
    assert told[0] == told[1]
    assert any("case_2: warning: spacing" in line for line in told[0][0])
    assert "case_1" in told[0][2]
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert len(files_of(tmp_path / "one")) == 10
    assert record_of(tmp_path / "one") == record_of(tmp_path / "two")
    assert record_of(tmp_path / "two")["device"] == "cpu"
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "two").iterdir()}
    assert main([*arguments, str(tmp_path / "two"), "--device", "cpu"]) == 1
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "two").iterdir()}
    assert {name for name in before if before[name] != after[name]} <= {"predictions.json"}


def test_what_is_refused(model, images, tmp_path, capsys):
    given = {"input": images, "output": tmp_path / "out", "model": model}
    with pytest.raises(UserError, match="either one device"):
        predict(**given, device="cpu", devices="cpu,cpu")
    with pytest.raises(UserError, match="devices has 'auto'"):
        predict(**given, devices=["cpu", "auto"])
    with pytest.raises(UserError, match="device 'cuda:99' cannot be used here"):
        predict(**given, devices="cpu,99")
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit) as ended:
        main(["-i", "in", "-o", "out", "-m", "model", "--device", "cpu", "--devices", "cpu,cpu"])
    assert ended.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


def watched_work(connection, device, work):
    """What a worker process runs here: it leaves a file CASE.PID when it begins to predict a case; some case may kill it."""
    whole = stream._predict

    def predict(ensemble, output, loaded):
        (Path(os.environ["WATCHED"]) / f"{loaded.case}.{os.getpid()}").touch()
        if loaded.case == os.environ.get("DEADLY"):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(float(os.environ["SLOW"]))
        return whole(ensemble, output, loaded)

    stream._predict = predict
    devices._work(connection, device, work)


def watched_command(*arguments):
    """The command with such workers; Ctrl-C counts though background jobs of a shell ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    devices._work = watched_work
    return main(arguments)


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """The folder of the files that worker processes leave."""
    monkeypatch.setenv("WATCHED", str(tmp_path / "watched"))
    monkeypatch.setenv("SLOW", "0.5")  # both processes get cases
    monkeypatch.setattr(devices, "_work", watched_work)
    (tmp_path / "watched").mkdir()
    return tmp_path / "watched"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_process_costs_one_case(model, images, tmp_path, watched, monkeypatch):
    monkeypatch.setenv("DEADLY", "case_1")
    result = predict(input=images, output=tmp_path / "out", model=model, mirroring=False, devices="cpu,cpu")
    assert list(result.segmented) == ["case_0", "case_2", "case_3"]
    assert "the process on cpu was killed while it predicted the case" in result.failed["case_1"]
    tried = [path.name.split(".") for path in watched.iterdir()]
    assert sorted(case for case, _ in tried) == ["case_0", "case_1", "case_1", "case_2", "case_3"]
    assert len({process for _, process in tried}) >= 3
    record = record_of(tmp_path / "out")
    assert (list(record["cases"]), list(record["failed"])) == (["case_0", "case_2", "case_3"], ["case_1"])
    monkeypatch.delenv("DEADLY")
    again = predict(input=images, output=tmp_path / "out", model=model, mirroring=False, device="cpu")
    assert (len(again.segmented), again.failed) == (4, {})


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("alone", [False, True])
def test_ctrl_c_ends_all_processes_and_the_same_command_resumes(model, images, tmp_path, watched, alone, monkeypatch):
    """A terminal sends it to all processes; a batch system, as SIGTERM, to the command alone."""
    out = tmp_path / "out"
    arguments = ["-i", str(images), "-o", str(out), "-m", str(model), "--no-mirroring", "--devices", "cpu,cpu"]
    code = f"import sys, tests.inference.test_devices as this; sys.exit(this.watched_command(*{arguments}))"
    predict(input=images / "case_3_0000.nii.gz", output=out, model=model, mirroring=False, device="cpu")
    monkeypatch.setenv("SLOW", "60")
    with subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        while len(list(watched.iterdir())) < 2:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        workers = [int(path.name.split(".")[1]) for path in watched.iterdir()]
        start = time.monotonic()
        os.kill(process.pid, signal.SIGTERM) if alone else os.killpg(process.pid, signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(30) == 130
    assert time.monotonic() - start < 30
    assert "Traceback" not in said
    assert len(set(workers)) == 2
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)
    record = record_of(out)
    assert (list(record["cases"]), record["failed"], len(record["pending"])) == (["case_3"], {}, 3)
    monkeypatch.setenv("SLOW", "0")
    assert main(arguments if alone else [*arguments[:-2], "--device", "cpu"]) == 0
    assert list(record_of(out)["cases"]) == ["case_0", "case_1", "case_2", "case_3"]


@pytest.mark.parametrize("message", [None, devices.Ask.CASE])
def test_a_process_that_never_took_its_end_of_the_connection_is_noticed(message):
    """As on Windows, where the parent then still holds that end."""
    connection, other = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=int, daemon=True)
    process.start()
    process.join()
    if message is not None:  # what it sent before is not lost
        other.send(message)
    worker = devices.Worker("cpu", process, connection)
    assert worker.look() is message
    other.close()
    assert worker.look() is None
