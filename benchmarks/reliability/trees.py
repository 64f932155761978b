"""Folders as dictionaries of what their files hold, so that two runs can be compared."""

import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

TIMES = ("seconds", "created")  # keys of JSON and checkpoints that hold durations and moments


def restore(state: Path, place: Path) -> None:
    """Make ``place`` a copy of ``state``."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(state, place, symlinks=True)


def content(root: Path) -> dict[str, str]:
    """Relative path of every file, folder and link below ``root``, and a hash of what it holds apart from times."""
    return {str(path.relative_to(root)): _digest(path) for path in sorted(root.rglob("*"))}


def _digest(path: Path) -> str:
    if path.is_dir():
        return "folder"
    raw = path.read_bytes()
    try:
        return hashlib.sha256(_without_times(path.name, raw)).hexdigest()
    except Exception:  # not what its name says: then its bytes count
        return hashlib.sha256(raw).hexdigest()


def _without_times(name: str, raw: bytes) -> bytes:
    if name.endswith((".json", ".jsonl")):
        lines = raw.splitlines() if name.endswith(".jsonl") else [raw]
        return "\n".join(json.dumps(_stripped(json.loads(line))) for line in lines).encode()
    if name == "checkpoint_latest.pt":  # how long the fold was trained
        import torch

        return json.dumps(_stripped(torch.load(io.BytesIO(raw), weights_only=True))).encode()
    if name == "training.log":  # has a time in every line, and more lines after an interruption
        return b""
    if name.endswith(".zip"):  # its members have times
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            return json.dumps([(n, hashlib.sha256(archive.read(n)).hexdigest()) for n in archive.namelist()]).encode()
    return raw


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stripped(item) for key, item in value.items() if key not in TIMES}
    if isinstance(value, list | tuple):
        return [_stripped(item) for item in value]
    if hasattr(value, "numpy"):  # tensors by value: which of them share memory, and so their bytes, may differ
        array = value.contiguous().numpy()
        return [str(array.dtype), array.shape, hashlib.sha256(array.tobytes()).hexdigest()]
    return value
