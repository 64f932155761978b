"""All commands: fast help, refused flags, exit codes."""

import argparse
import errno
import json
import os
import signal
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from unetrpp.core.command_line import Parser, above_zero, let_waiting_threads_sleep, not_negative, positive, run
from unetrpp.core.errors import UserError
from unetrpp.core.reply import Outcome

SCRIPTS = {s.name: s.value for s in distribution("unetrpp").entry_points.select(group="console_scripts")}

# Runs a command's entry point as its console script does and reports its exit code and its imports.
PROBE = """
import importlib, json, sys
module, function = sys.argv.pop(1).split(":")
report = sys.argv.pop(1)
code = 0
try:
    code = getattr(importlib.import_module(module), function)()
except SystemExit as stop:
    code = stop.code
loaded = sorted({name.split(".")[0] for name in sys.modules})
open(report, "w").write(json.dumps({"code": code, "loaded": loaded}))
"""


def probe(tmp_path: Path, command: str, *arguments: str) -> tuple[dict, subprocess.CompletedProcess]:
    report = tmp_path / "report.json"
    call = [sys.executable, "-c", PROBE, SCRIPTS[command], str(report), *arguments]
    done = subprocess.run(
        call, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "COLUMNS": "100"}
    )
    return json.loads(report.read_text()), done


@pytest.mark.parametrize("command", sorted(SCRIPTS))
def test_help_imports_nothing_heavy_and_shows_examples(tmp_path, command):
    report, done = probe(tmp_path, command, "--help")
    assert report["code"] in (0, None)
    assert not {"torch", "numpy", "SimpleITK", "scipy", "msgspec"} & set(report["loaded"])
    assert "usage:" in done.stdout
    if command != "unetrpp":
        assert "examples:" in done.stdout


@pytest.mark.parametrize("command", sorted(set(SCRIPTS) - {"unetrpp"}))
def test_a_misspelt_flag_is_refused_with_the_nearest_one(tmp_path, command):
    report, done = probe(tmp_path, command, "--debgu")
    assert report["code"] == 2
    assert "unknown option --debgu; did you mean --debug?" in done.stderr
    assert not {"torch", "numpy"} & set(report["loaded"])


@pytest.mark.parametrize("command", sorted(SCRIPTS))
def test_version(tmp_path, command):
    report, done = probe(tmp_path, command, "--version")
    assert report["code"] in (0, None)
    assert done.stdout.startswith("unetrpp ")


def test_an_unknown_command_is_answered_with_the_nearest(tmp_path):
    report, done = probe(tmp_path, "unetrpp", "trian")
    assert report["code"] == 2
    assert "did you mean train?" in done.stderr


def test_unetrpp_runs_the_commands(tmp_path):
    _, done = probe(tmp_path, "unetrpp", "train", "--help")
    assert "usage: unetrpp_train" in done.stdout


def test_unetrpp_alone_lists_every_command(tmp_path):
    report, done = probe(tmp_path, "unetrpp")
    commands, _, following = done.stdout.partition("\nnext, in unetrpp_workspace:\n")
    listed = [line.split(maxsplit=1) for line in commands.splitlines() if line.startswith("  ")]
    assert report["code"] == 0
    assert "has no dataset yet" in following
    names = {script.removeprefix("unetrpp_").replace("_", "-") for script in SCRIPTS if script != "unetrpp"}
    assert {name for name, purpose in listed if purpose} == names


def test_cost_refuses_a_name_that_is_not_a_plan(tmp_path):
    report, done = probe(tmp_path, "unetrpp_cost", "nope")
    assert report["code"] == 2
    assert "nope is neither a plans file nor a published network" in done.stderr


def parser() -> Parser:
    return Parser("unetrpp_test", "A test.", "unetrpp_test")


@pytest.mark.parametrize("check", [positive, not_negative, above_zero])
def test_a_word_instead_of_a_number_is_refused(check):
    with pytest.raises(argparse.ArgumentTypeError, match=r"must be a (whole )?number, not 'ten'"):
        check("ten")


def test_an_error_of_the_operating_system_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").touch()

    def write_below_a_file(arguments):
        (tmp_path / "file" / "folder").mkdir()
        return Outcome()

    def fill_the_disk(arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert run(parser(), write_below_a_file, []) == 1
    assert "there is a file where a folder is needed" in capsys.readouterr().err
    assert run(parser(), fill_the_disk, []) == 1
    assert capsys.readouterr().err == (
        "unetrpp_test: error: No space left on device; free some space and give the same command again\n"
    )


def test_exit_codes(capsys):
    def refuse(arguments):
        raise UserError("label 7 is unknown", case="a")

    def crash(arguments):
        raise ValueError("odd")

    assert run(parser(), lambda arguments: Outcome(code=1), []) == 1
    assert run(parser(), refuse, []) == 2
    assert "unetrpp_test: error: a: label 7 is unknown" in capsys.readouterr().err
    assert run(parser(), crash, []) == 1
    assert "Traceback" not in capsys.readouterr().err
    with pytest.raises(ValueError, match="odd"):
        run(parser(), crash, ["--debug"])


def test_json_is_all_that_is_printed(capfd):
    """--json: what the command prints itself, also below Python, goes to standard error."""

    def work(arguments):
        print("a table")
        os.write(1, b"of a library")
        subprocess.run([sys.executable, "-c", "print('of a process')"], check=True)
        return Outcome({"path": Path("a/b"), "score": float("nan")}, code=1)

    assert run(parser(), work, ["--json"]) == 1
    out, err = capfd.readouterr()
    reply = json.loads(out)
    assert (reply["command"], reply["exit_code"], reply["error"]) == ("unetrpp_test", 1, None)
    assert reply["result"] == {"path": "a/b", "score": None}
    assert all(text in err for text in ("a table", "of a library", "of a process"))
    assert run(parser(), lambda _: Outcome({}), []) == 0
    assert capfd.readouterr().out == ""


def test_names_that_the_terminal_cannot_show_are_escaped():
    code = "from unetrpp.core.command_line import Outcome, Parser, run; import sys; " + (
        "sys.exit(run(Parser('x', 'x', 'x'), lambda _: print('\\u80dd liver') or Outcome(), []))"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    assert done.stdout.split() == [rb"\u80dd", b"liver"]


WAIT = """
import signal, sys, time
from unetrpp.core.command_line import Outcome, Parser, run
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
def work(_):
    print("working", flush=True)
    time.sleep(60)
    return Outcome()
sys.exit(run(Parser("unetrpp_test", "A test.", "unetrpp_test"), work, []))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process at once")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_interrupted_says_so_without_a_traceback(number):
    command = [sys.executable, "-c", WAIT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "working\n"
        process.send_signal(number)
        assert process.wait(30) == 130
        assert process.stderr.read() == "unetrpp_test: interrupted; the same command resumes\n"


def mine(number, frame): ...


@pytest.mark.parametrize("handler", [signal.SIG_DFL, mine])
def test_the_handler_of_sigterm_is_that_of_before_again(handler):
    before, seen = signal.signal(signal.SIGTERM, handler), []

    def work(_):
        seen.append(signal.getsignal(signal.SIGTERM))
        return Outcome()

    try:
        assert run(parser(), work, []) == 0
        assert signal.getsignal(signal.SIGTERM) == handler
        assert (seen[0] == handler) == (handler is mine)  # a handler that the caller has set is kept
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ],
)
def test_waiting_threads_sleep_soon_unless_the_user_decides(before, expected, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    let_waiting_threads_sleep()
    assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_an_interrupted_command_says_what_the_same_one_does(capsys):
    asked = Parser("unetrpp_test", "A test.", "unetrpp_test")
    asked.add_argument("--overwrite", action="store_true")

    def stop(arguments):
        raise KeyboardInterrupt

    for given, told in (
        ([], "the same command resumes"),
        (["--overwrite"], "with --overwrite the same command starts again"),
    ):
        assert run(asked, stop, given) == 130
        assert capsys.readouterr().err == f"unetrpp_test: interrupted; {told}\n"


def test_json_holds_names_that_are_not_utf_8_escaped(capfd):
    name = os.fsdecode(b"bad\xff")

    def refuse(arguments):
        raise UserError(f"{name} does not exist")

    assert run(parser(), refuse, ["--json"]) == 2
    assert json.loads(capfd.readouterr().out)["error"] == r"bad\xff does not exist"
    result = {name: [Path(name), (name, 1)], "plain": None}
    assert run(parser(), lambda _: Outcome(result), ["--json"]) == 0
    assert json.loads(capfd.readouterr().out)["result"] == {r"bad\xff": [r"bad\xff", [r"bad\xff", 1]], "plain": None}
