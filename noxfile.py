"""Sessions that run the steps of .ci/steps.py, each in an environment of its own: `nox -l` lists them, `nox -s NAME` runs one."""

from pathlib import Path

import nox

nox.options.sessions = ["tests", "checks", "package", "docs", "demo"]
nox.options.reuse_existing_virtualenvs = True

# Extra -> what only an environment with it can run.
EXTRAS = {
    "tensorboard": "from torch.utils.tensorboard import SummaryWriter",
    "wandb": "from wandb import Image, Settings, init",
    "mlflow": "from mlflow import MlflowClient",
    "hub": "from huggingface_hub import HfApi",
    "serve": "import unetrpp.service.app",
    "completion": "from unetrpp.cli.completion import main; main(['bash'])",
    "dask": "from distributed import Client, LocalCluster",
    "napari": "import unetrpp.napari.panel",
    "dicom": "from highdicom.seg import Segmentation",
    "onnx": "import onnx, onnxruntime, onnxscript",
    "zarr": "import zarr",
    "notebook": "import ipykernel, ipywidgets",
    "niivue": "from ipyniivue import NiiVue",
    "docs": "import material, mkdocs, mkdocstrings, mkdocstrings_handlers.python",
    "test": "import pytest, ruff, mypy, importlinter, build, twine",
}


def step(session: nox.Session, name: str) -> None:
    """Run a step with the versions of constraints.txt; what follows -- goes to its last command."""
    session.install("-c", "constraints.txt", "-e", ".[test]")
    run(session, name)


def run(session: nox.Session, name: str, *arguments: str) -> None:
    session.run("python", ".ci/steps.py", name, *arguments, *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Tests and doctests."""
    step(session, "tests")


@nox.session
def checks(session: nox.Session) -> None:
    """ruff, mypy, the order of imports, and the structure in numbers."""
    step(session, "checks")


@nox.session
def package(session: nox.Session) -> None:
    """Build sdist and wheel, install the wheel in a fresh environment and run a short demo there."""
    step(session, "package")


@nox.session
def napari(session: nox.Session) -> None:
    """The plugin's manifest, and its tests on a Qt without a screen."""
    session.install("-c", "constraints.txt", "-e", ".[test,napari]")
    run(session, "napari")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site into site/."""
    session.install("-c", "constraints.txt", "-e", ".[docs]")
    run(session, "docs")


@nox.session
def examples(session: nox.Session) -> None:
    """Run the notebooks of examples/; the session tests does so, too."""
    step(session, "examples")


@nox.session
def demo(session: nox.Session) -> None:
    """The README's demo, and its number recomputed."""
    step(session, "demo")


@nox.session
def coverage(session: nox.Session) -> None:
    """The tests, with the share of lines and branches that they run."""
    session.install("-c", "constraints.txt", "-e", ".[test]", "pytest-cov")
    run(session, "coverage")


@nox.session
def newest(session: nox.Session) -> None:
    """Tests with the newest versions of all packages."""
    session.install("--upgrade", "-e", ".[test,tensorboard]")
    run(session, "tests")


@nox.session
def lowest(session: nox.Session) -> None:
    """Quick tests with the lowest versions that pyproject.toml allows; needs Python 3.11, which all of them support."""
    session.install("uv")
    install = ("uv", "pip", "install", "--python", session.virtualenv.location)
    session.run(*install, "--resolution", "lowest-direct", "-e", ".[dicom,onnx,tensorboard]")
    too_new = Path(session.create_tmp()) / "too_new.txt"
    too_new.write_text("ipyniivue\n", encoding="utf8")  # wants numpy 2; its tests are skipped
    # The tools of the tests are the newest that fit.
    session.run(*install, "--excludes", str(too_new), "-e", ".[test]")
    run(session, "tests", "-m", "not slow", "-W", "default")  # old versions warn of what later ones have mended


@nox.session
@nox.parametrize("extra", [nox.param("", id="none"), *(nox.param(name, id=name) for name in EXTRAS)])
def extras(session: nox.Session, extra: str) -> None:
    """torch, then the package with one extra: torch stays, what needs the extra is there, unetrpp_doctor. Without: a short demo.

    What follows -- goes to pip.
    """
    session.install(*session.posargs, "torch")
    before = installed(session)
    session.install(*session.posargs, "-e", f".[{extra}]" if extra else ".")
    after = installed(session)
    if before["torch"] != after["torch"]:
        session.error(f"torch {before['torch']} was replaced by {after['torch']}")
    added = len(after.keys() - before.keys())
    session.log(f"{extra or 'no extra'}: torch {after['torch']} stays, {added} packages are added")
    session.run("python", "-c", EXTRAS.get(extra, "import unetrpp"), silent=True)
    session.run("unetrpp_doctor")
    if not extra:
        session.run("unetrpp_demo", "--folder", session.create_tmp(), "--epochs", "1", "--iterations", "1")


def installed(session: nox.Session) -> dict[str, str]:
    """Package -> version."""
    listed = str(session.run("python", "-m", "pip", "list", "--format", "freeze", silent=True))
    return dict(line.split("==", 1) for line in listed.split())
