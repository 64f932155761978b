"""`unetrpp_completion`: the shells that are installed take the script, and complete with it."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from unetrpp.__main__ import commands
from unetrpp.cli.completion import SHELLS, completion_script, main

COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
function=$(complete -p "$1" | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
"$function" "$1" "${COMP_WORDS[$COMP_CWORD]}" "${COMP_WORDS[$((COMP_CWORD - 1))]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""

# How the command's help says that a shell takes the script, and what then lists the completed commands; the flag leaves out the
# user's own settings.
TAKEN = {
    "bash": ("--norc", "source {}; complete -p"),
    "zsh": ("-f", 'autoload -U compinit && compinit -u -D; eval "$(<{})"; print -l ${{(k)_comps}}'),
    "tcsh": ("-f", "source {}; complete"),
}


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    file = tmp_path_factory.mktemp("completion") / "script"
    file.write_text(completion_script("bash"), encoding="utf8")
    return file


@pytest.fixture
def complete(script, tmp_path):
    """What bash offers for the last word of a command line."""
    program = shutil.which("bash")
    if program is None or os.name == "nt":
        pytest.skip("there is no bash")

    def complete(*words: str) -> set[str]:
        command = [program, "--norc", "-c", COMPLETE, "bash", str(script), *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
        assert done.stderr == ""
        return {line.strip() for line in done.stdout.splitlines() if line.strip()}

    return complete


def test_options(complete):
    assert complete("unetrpp_train", "--iter") == {"--iterations"}
    assert complete("unetrpp", "train", "--iter") == {"--iterations"}
    assert {"--json", "--no-mirroring", "--batch-size"} & complete("unetrpp_train", "--") == {
        "--json",
        "--no-mirroring",
    }


def test_commands_and_first_arguments(complete):
    assert complete("unetrpp", "pl") == {"plan-and-preprocess", "plan-report"}
    assert complete("unetrpp_convert", "to") == {"totalsegmentator"}
    assert complete("unetrpp", "convert", "kits", "--reg") == {"--regions"}


def test_values(complete):
    assert complete("unetrpp_train", "Liver", "3d_fullres", "--optimizer", "") == {"sgd", "adamw", "muon"}
    assert complete("unetrpp_completion", "b") == {"bash"}


def test_files(complete, tmp_path):
    (tmp_path / "model.zip").touch()
    (tmp_path / "models").mkdir()
    assert complete("unetrpp_import", "mod") == {"model.zip", "models"}
    assert complete("unetrpp_report", "models", "-o", "model.") == {"model.zip"}


def test_every_command_is_completed(script):
    text = script.read_text(encoding="utf8") + "\n"
    for name in ("unetrpp", *(entry.name for entry in commands().values())):
        assert f" {name}\n" in text


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_take_it(shell, tmp_path, capsys):
    assert main([shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out, encoding="utf8")
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell}")
    flag, command = TAKEN[shell]
    done = subprocess.run(
        [program, flag, "-c", command.format(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("unetrpp", "unetrpp_train"):
        assert re.search(rf"\b{name}\b", done.stdout)


def test_without_shtab_and_with_another_shell(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["bash"]) == 2
    assert 'run pip install "unetrpp[completion]"' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["nu"])
