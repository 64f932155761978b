"""Checkpoint files: what is written comes back, and what is not a checkpoint of ours is refused."""

import pickle
from pathlib import Path

import pytest
import torch

from unetrpp.core.errors import UserError
from unetrpp.model import checkpoint

CPU = torch.device("cpu")
RUN: list[int] = []


def run() -> None:
    RUN.append(1)


class Code:
    """Calls :func:`run` when it is unpickled."""

    def __reduce__(self):
        return run, ()


def test_equal_content_gives_equal_bytes_under_any_name(tmp_path, monkeypatch):
    network = torch.nn.Conv2d(2, 3, 3)
    for folder, process in (("a", 11), ("b", 222)):
        monkeypatch.setattr("os.getpid", lambda process=process: process)  # the temporary file has it in its name
        checkpoint.save(tmp_path / folder / "checkpoint_final.pt", {"network": network.state_dict(), "step": 7})
    first, second = (tmp_path / folder / "checkpoint_final.pt" for folder in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_what_is_saved_is_loaded(tmp_path):
    network = torch.nn.Conv2d(2, 3, 3)
    path = tmp_path / "checkpoint_final.pt"
    checkpoint.save(path, {"network": network.state_dict(), "step": 7, "losses": [0.5, 0.25], "name": "fold 0"})
    content = checkpoint.load(path, CPU)
    assert (content["step"], content["losses"], content["name"]) == (7, [0.5, 0.25], "fold 0")
    assert content["network"].keys() == network.state_dict().keys()
    torch.testing.assert_close(content["network"]["weight"], network.weight.detach(), rtol=0, atol=0)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("found", [0, 2, "1", None])
def test_another_format_is_refused(tmp_path, found):
    torch.save({"format": found, "network": {}}, tmp_path / "c.pt")
    with pytest.raises(UserError, match=rf"has checkpoint format {found}, this release reads 1"):
        checkpoint.load(tmp_path / "c.pt", CPU)


@pytest.mark.parametrize("content", [{"network": {}}, torch.zeros(3), [1, 2]])
def test_files_of_other_programs_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(UserError, match="has checkpoint format None"):
        checkpoint.load(tmp_path / "c.pt", CPU)


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_a_damaged_file_is_refused(tmp_path, size):
    path = tmp_path / "c.pt"
    checkpoint.save(path, {"network": torch.nn.Conv2d(2, 3, 3).state_dict()})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"c.pt cannot be read as a checkpoint \(.*\); copy it again, or delete it"):
        checkpoint.load(path, CPU)
    with pytest.raises(UserError, match=r"cannot be read as a checkpoint \(FileNotFoundError\)"):
        checkpoint.load(tmp_path / "missing.pt", CPU)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
@pytest.mark.parametrize("save", [torch.save, lambda content, path: Path(path).write_bytes(pickle.dumps(content))])
def test_only_tensors_numbers_and_strings_are_read(tmp_path, save):
    """No code of a downloaded checkpoint is run."""
    save({"format": 1, "network": {}, "other": Code()}, tmp_path / "c.pt")
    RUN.clear()
    with pytest.raises(UserError, match=r"cannot be read as a checkpoint \(UnpicklingError\)"):
        checkpoint.load(tmp_path / "c.pt", CPU)
    assert RUN == []
    pickle.loads(pickle.dumps(Code()))
    assert RUN == [1]  # so the refusal above was needed
