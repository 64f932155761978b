"""unetrpp_doctor names what will not work, and ends with 2 only then."""

import importlib.metadata
import re
from collections import namedtuple

import pytest
import torch

from unetrpp.cli import doctor
from unetrpp.cli.doctor import main


@pytest.fixture
def report(tmp_path, capsys):
    """A function that runs the command on a workspace; returns the exit code and the output."""

    def run(workspace=tmp_path):
        code = main(["--workspace", str(workspace)])
        return code, capsys.readouterr().out

    return run


def test_on_this_machine_everything_works(report, tmp_path):
    (tmp_path / "raw" / "Liver").mkdir(parents=True)
    (tmp_path / "results" / "Liver" / "unetrpp__3d_fullres").mkdir(parents=True)
    code, text = report()
    assert code == 0
    assert f"torch {importlib.metadata.version('torch')}" in text
    assert "1 raw dataset, 0 preprocessed datasets, 1 model" in " ".join(text.split())
    assert "no problem was found that stops a command" in text
    assert re.search(r"^cpu +\S", text, re.M)
    assert not list(tmp_path.glob("*tmp*"))


def test_a_package_that_is_too_old_or_missing(report, monkeypatch):
    lines = ["numpy>=99", "no-such-package-here", 'pillow>=99; extra == "pictures"']
    monkeypatch.setattr(doctor, "requires", lambda _: lines)
    code, text = report()
    assert code == 2
    fatal, looked_at = text.split("to look at:")
    assert f"numpy>=99 is needed, {importlib.metadata.version('numpy')} is there" in fatal
    assert "no-such-package-here is missing" in fatal
    assert "pillow>=99 is needed" in looked_at  # only an extra


def test_a_workspace_that_cannot_be_written(report, tmp_path):
    (tmp_path / "file").touch()
    code, text = report(tmp_path / "file" / "workspace")
    assert code == 2
    assert "workspace: " in text.split("will not work:")[1]
    assert "give another --workspace" in text


def test_a_full_disk_is_named(report, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(2**30))
    code, text = report()
    assert code == 0
    assert "disk: less than 10.0 GB are free" in text.split("to look at:")[1]


def test_a_device_that_fails(report, monkeypatch):
    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel image is available\nmore")

    monkeypatch.setattr(torch.nn, "Conv3d", failing)
    code, text = report()
    assert code == 2
    assert "cpu: a convolution fails (no kernel image is available); use another device" in text


@pytest.mark.parametrize(("cuda", "built"), [(None, "built without CUDA"), ("12.8", "built for CUDA 12.8")])
def test_a_gpu_that_torch_cannot_use(report, monkeypatch, cuda, built):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/nvidia-smi")
    code, text = report()
    assert code == 0
    assert f"({built}) cannot use the NVIDIA GPU of this machine" in text


def test_more_threads_than_cores(report, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    monkeypatch.setattr("unetrpp.core.machine.usable_cores", lambda: 2)
    _, text = report()
    assert "commands compute with 2 threads" in text


def test_two_openmp_libraries(report, monkeypatch):
    loaded = [{"user_api": "openmp", "prefix": prefix} for prefix in ("libiomp", "libomp")]
    monkeypatch.setattr("threadpoolctl.threadpool_info", lambda: [*loaded, {"user_api": "blas", "prefix": "libmkl"}])
    _, text = report()
    assert "libiomp and libomp are loaded together" in text
