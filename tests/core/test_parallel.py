"""Running many cases: errors and killed workers cost one case each."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
import SimpleITK as sitk

from tests.helpers.cluster import dask_executor
from unetrpp.core.errors import UserError
from unetrpp.core.parallel import error_table, new_pool, run_cases


class Unpicklable(Exception):
    """An exception that would break the pool if it were sent to the parent process."""

    def __init__(self, first, second):
        super().__init__(first)


def square(number):
    if number == 3:
        raise UserError("the number must not be 3", case="case_3")
    if number == 4:
        raise Unpicklable("cannot travel", None)
    if number == 5 and os.environ.get("DEADLY"):
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2


def add_line(path):
    with path.open("a") as file:
        file.write("done\n")


def itk_threads():
    return sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()


def outcomes(processes, numbers=range(7), executor=None):
    jobs = {f"case_{n}": (n,) for n in numbers}
    return {o.case: o for o in run_cases(square, jobs, "squares", processes, executor=executor)}


@pytest.mark.parametrize("processes", [1, 2])
def test_results_and_errors_do_not_depend_on_the_number_of_processes(processes):
    found = outcomes(processes)
    assert {case: o.value for case, o in found.items() if o.error is None} == {
        f"case_{n}": n**2 for n in (0, 1, 2, 5, 6)
    }
    errors = {case: o.error for case, o in found.items() if o.error is not None}
    assert errors["case_3"].message == "the number must not be 3"
    assert errors["case_4"].message == "cannot travel"
    assert "Unpicklable" in errors["case_4"].traceback


def test_the_number_of_workers_is_limited_on_windows(monkeypatch):
    """Python refuses larger pools there."""
    monkeypatch.setattr(sys, "platform", "win32")
    with new_pool(128):
        pass  # no worker starts before there is work


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("given", [False, True])
def test_a_killed_worker_is_named_and_the_others_finish(monkeypatch, given):
    monkeypatch.setenv("DEADLY", "1")
    with new_pool(2) if given else nullcontext() as executor:
        found = outcomes(2, [0, 5, 6], executor)
    assert {case for case, o in found.items() if o.error is None} == {"case_0", "case_6"}
    assert "killed during squares" in found["case_5"].error.message


def test_a_script_without_the_guard_is_told_so_once(tmp_path):
    script, started = tmp_path / "script.py", tmp_path / "started"
    script.write_text(
        f"open({str(started)!r}, 'a').write('x')\n"
        "from unetrpp.core.errors import UserError\n"
        "from unetrpp.core.parallel import run_cases\n"
        "try:\n"
        "    print([o.value for o in run_cases(abs, {str(n): (n,) for n in range(5)}, 'squares', 2)])\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=True)
    assert ended.stdout == (
        "no worker process could begin squares: a script that calls this with several processes must do so below "
        'if __name__ == "__main__":\n'
    )
    assert len(started.read_text()) <= 3  # the script, and its two processes


def test_a_given_executor_is_used_and_stays_open():
    with new_pool(1) as pool:
        assert outcomes(9, [1, 2], pool)["case_2"].value == 4
        assert pool.submit(square, 6).result() == 36


class GivesUp(Executor):
    """Cancels three calls, as Dask does when its scheduler is gone, and would never answer a fourth."""

    def __init__(self):
        self.calls = 0

    def submit(self, function, /, *arguments, **options):
        self.calls += 1
        future: Future[Any] = Future()
        if self.calls <= 3:
            future.cancel()
            future.set_running_or_notify_cancel()
        return future


def test_an_executor_that_gave_up_is_not_called_again():
    executor = GivesUp()
    found = outcomes(1, [1, 2], executor)
    assert executor.calls == 3  # each case, and the first one again
    assert [o.error.message[:33] for o in found.values()] == ["the executor gave up squares, as "] * 2


def test_an_executors_worker_gets_its_threads_back():
    before = itk_threads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(3)
    try:
        with ThreadPoolExecutor(1) as pool:
            (found,) = run_cases(itk_threads, {"a": ()}, "threads", 1, executor=pool)
            assert (found.value, itk_threads()) == (1, 3)
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_cluster_that_loses_a_worker_names_the_case_and_finishes_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("DEADLY", "1")
    with dask_executor(tmp_path / "workers") as executor:
        found = outcomes(1, [5, *range(5), 6], executor)
        errors = {case: o.error.message for case, o in found.items() if o.error is not None}
        killed = errors.pop("case_5")
        assert killed.startswith("the executor failed during squares (KilledWorker: ")
        assert errors == {"case_3": "the number must not be 3", "case_4": "cannot travel"}
        assert [found[f"case_{n}"].value for n in (0, 1, 2, 6)] == [0, 1, 4, 36]
        for _ in range(2):  # Dask treats equal calls as one
            assert [
                o.error for o in run_cases(add_line, {"a": (tmp_path / "lines",)}, "lines", 1, executor=executor)
            ] == [None]
    assert (tmp_path / "lines").read_text() == "done\ndone\n"


def test_table_of_errors():
    found = outcomes(1)
    table = error_table([o.error for o in found.values() if o.error is not None])
    assert [line.split()[0] for line in table.splitlines()] == ["case", "case_3", "case_4"]


def touch_and_wait(path, seconds):
    path.touch()
    time.sleep(seconds)


def wait_in_workers(folder, seconds):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
    list(run_cases(touch_and_wait, {f"{i}": (folder / f"{i}", seconds) for i in range(40)}, "waiting", 2))


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("alone", [False, True])
def test_ctrl_c_ends_workers_without_a_word_and_starts_no_other_case(tmp_path, alone):
    """A terminal sends it to all processes; ``alone``, only the parent gets it, and waits for the cases in progress."""
    code = "import pathlib, tests.core.test_parallel as this; this.wait_in_workers(pathlib.Path({!r}), {})"
    command = [sys.executable, "-c", code.format(str(tmp_path), 1 if alone else 60)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        while len(list(tmp_path.iterdir())) < 2:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        send, target = (os.kill, process.pid) if alone else (os.killpg, process.pid)
        send(target, signal.SIGINT)
        said = process.stderr.read()
        assert said.count("Traceback") == 1  # the parent's, which a command turns into a sentence
        assert process.wait(30) == -signal.SIGINT
    assert len(list(tmp_path.iterdir())) < 10
