"""Build sdist and wheel, install the wheel in a fresh environment outside the repository, and try it there.

The wheel is built from the sdist, so both hold all that a build needs. The fresh environment holds the wheel alone; its
dependencies are those of the environment that runs this file, so that nothing large is installed twice. It shows that
the wheel holds every module, data file and command. That its list of dependencies is complete, tests/test_packaging.py checks.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "unetrpp": "unetrpp",
    **{f"unetrpp/{room}": room for room in ("dataset_conversion", "planners", "trainers")},
}
DEMO = ("--epochs", "1", "--iterations", "1")
IMPORT_ALL = """\
import importlib, pathlib, pkgutil, sys, unetrpp
package = pathlib.Path(unetrpp.__file__).parent
assert package.is_relative_to(sys.prefix), f"{package} was imported, not the wheel"
names = [found.name for found in pkgutil.walk_packages([str(package)], "unetrpp.")]
for name in names:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if name != "unetrpp.napari.panel" or error.name not in ("magicgui", "napari"):
            raise
        print(f"{name} needs the extra napari")
print(f"imported {len(names)} modules")
"""


def call(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a command with nothing of the repository on its path, and end with its exit code if it fails."""
    print("$", " ".join(map(str, command)).partition("\n")[0], flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = subprocess.run([str(part) for part in command], cwd=cwd, env=environment, check=False).returncode
    if code:
        raise SystemExit(code)


def build(folder: Path) -> Path:
    """Write sdist and wheel into ``folder`` and check their metadata; returns the wheel."""
    call(sys.executable, "-m", "build", "--quiet", "--outdir", folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    call(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    return wheel


def compare_files(wheel: Path) -> None:
    """Refuse a wheel that lacks a file of the four folders, or holds another."""
    on_disk = {
        f"{name}/{path.relative_to(ROOT / folder).as_posix()}"
        for name, folder in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")  # does not follow the three links
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    if on_disk != held:
        raise SystemExit(
            f"only in the repository: {sorted(on_disk - held)}; only in the wheel: {sorted(held - on_disk)}"
        )
    print(f"the wheel holds all {len(held)} files of {', '.join(FOLDERS.values())}")


def fresh_environment(folder: Path, wheel: Path) -> tuple[Path, Path]:
    """A new environment with the wheel, and this environment's packages behind it; returns its Python and scripts folder."""
    builder = venv.EnvBuilder(symlinks=os.name != "nt")
    builder.create(folder)
    names = {"base": str(folder), "platbase": str(folder), "installed_base": sys.base_prefix}
    packages, scripts = (Path(sysconfig.get_path(kind, "venv", names)) for kind in ("purelib", "scripts"))
    # A .pth file adds this folder to the path, but does not follow its own .pth files, such as the repository's editable install.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf8")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    call(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    return python, scripts


def main() -> int:
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        wheel = build(folder / "dist")
        compare_files(wheel)
        python, scripts = fresh_environment(folder / "environment", wheel)
        call(scripts / "unetrpp", "--version", cwd=folder)
        call(python, "-c", IMPORT_ALL, cwd=folder)
        call(scripts / "unetrpp_demo", *DEMO, cwd=folder)
    print(f"the wheel installs and runs: {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
