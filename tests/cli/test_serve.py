"""`unetrpp_serve` as a process: its options, its end, what it refuses to start with; and many requests."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psutil
import pytest
import SimpleITK as sitk

from tests.helpers.model import make_model, write_images
from unetrpp.cli.serve import main

READY = re.compile(r"(\S+) answers at (http://\S+)/; Ctrl-C ends it\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    make_model(folder, folds=2)
    write_images(folder / "images", 1)
    (folder / "token.txt").write_text("a-token-of-a-test\n")
    return folder


@contextmanager
def serving(place, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command on a free port, and its address."""
    command = [sys.executable, "-m", "unetrpp.cli.serve", str(place / "unetrpp__3d_fullres"), "--device=cpu", *options]
    environment = {**os.environ, "TMPDIR": str(place), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, "--port=0"], text=True, env=environment, stdout=pipe, stderr=pipe) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = READY.fullmatch(line)
        assert found, line + process.stderr.read()
        try:
            yield process, found[2]
        finally:
            process.kill()


def post(place, address, **given):
    content = (place / "images" / "case_0_0000.nii.gz").read_bytes()
    return httpx.post(f"{address}/segment?name=a.nii.gz", content=content, timeout=300, trust_env=False, **given)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_until_it_is_ended_and_leaves_nothing(place, number):
    options = ["--host=127.0.0.1", "--folds", "1", "--no-mirroring", "--queue=3", "--json"]
    with serving(place, *options) as (process, address):
        assert httpx.get(f"{address}/health", trust_env=False).json()["longest"] == 3
        settings = post(place, address).json()["settings"]
        assert (settings["mirroring"], settings["members"][0]["folds"]) == (False, ["1"])
        assert [path.name for path in place.glob(".unetrpp-*")] != []
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["result"] == {
        "model": str(place / "unetrpp__3d_fullres"),
        "address": f"{address}/",
        "requests": 1,
    }
    assert err.splitlines() == [*re.findall("segmented an image .*", err), "ended; 1 request answered"]
    assert list(place.glob(".unetrpp-*")) == []


def test_other_machines_with_a_token(place):
    with serving(place, "--host=0.0.0.0", f"--token-file={place / 'token.txt'}") as (_, address):
        local = address.replace("0.0.0.0", "127.0.0.1")
        assert post(place, local).status_code == 401
        assert post(place, local, headers={"Authorization": "Bearer a-token-of-a-test"}).status_code == 200


def test_what_a_killed_service_left_is_removed_by_the_next(place):
    with serving(place) as (process, _):
        process.kill()
        process.wait()
        assert len(list(place.glob(".unetrpp-*"))) == 1
    with serving(place) as (process, _):
        assert len(list(place.glob(".unetrpp-*"))) == 1
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert list(place.glob(".unetrpp-*")) == []


def test_what_it_does_not_start_with(place, capsys):
    model = str(place / "unetrpp__3d_fullres")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = {
            (model, "--host", "0.0.0.0"): "add --token-file FILE, or leave --host out",
            (model, "--token-file", str(place / "none.txt")): "cannot be read as text",
            (model, "--port", str(port)): f"127.0.0.1 port {port} cannot be listened at (",
            (model, "--port", "70000"): "--port is 70000; it must be at most 65535",
            (
                model,
                "--host",
                "no.such.host.invalid",
                "--token-file",
                str(place / "token.txt"),
            ): "cannot be listened at (",
            (str(place / "images"),): "is not a model folder",
            (model, "--folds", "7"): "7",
            (model, "--device", "nonsense"): "nonsense",
        }
        for arguments, said in refused.items():
            assert main(list(arguments)) == 2, arguments
            error = capsys.readouterr().err
            assert said in error
            assert len(error.splitlines()) == 1
    with pytest.raises(SystemExit):
        main([model, "--largest-mb", "0"])


def test_a_larger_image_than_its_limit(place, tmp_path):
    sitk.WriteImage(sitk.Image([100, 100, 100], sitk.sitkUInt8), str(tmp_path / "a.nii.gz"), useCompression=True)
    with serving(place, "--largest-mb=1") as (_, address):
        content = (tmp_path / "a.nii.gz").read_bytes()
        response = httpx.post(f"{address}/segment?name=a.nii.gz", content=content, trust_env=False, timeout=300)
    assert response.status_code == 413
    assert "start the service with a larger --largest-mb" in response.json()["error"]


@pytest.mark.slow
def test_many_requests_are_all_answered_in_flat_memory(place):
    """benchmarks/serve.py sends more, and docs/serving.md has its figures."""
    with serving(place, "--no-mirroring") as (process, address):
        service = psutil.Process(process.pid)

        def peak_after(requests):
            assert {post(place, address).status_code for _ in range(requests)} == {200}
            return service.memory_info().rss

        first, second = peak_after(15), peak_after(30)
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: post(place, address), range(16)))
        assert [answer.status_code for answer in answers] == [200] * 16
        assert len({answer.json()["segmentation"] for answer in answers}) == 1
        assert second - first < 8 * 2**20
        assert service.memory_info().rss - first < 24 * 2**20
        assert service.num_fds() < 64 if hasattr(service, "num_fds") else True
