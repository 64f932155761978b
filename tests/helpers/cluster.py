"""A cluster of two Dask workers on this machine: processes of one thread each."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

import dask
from distributed import Client, LocalCluster

PATIENCE = (
    "distributed.comm.timeouts.connect",
    "distributed.comm.timeouts.tcp",
    "distributed.deploy.lost-worker-timeout",
)


@contextmanager
def dask_client(folder: Path) -> Iterator[Client]:
    """``folder`` is for the workers' files. A task that kills its worker is not repeated on another one.

    On a busy machine workers start and answer slowly; by default Dask waits only 15 to 30 seconds.
    """
    settings = {"distributed.scheduler.allowed-failures": 0, **dict.fromkeys(PATIENCE, "10 minutes")}
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address=":0",
            local_directory=str(folder),
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def dask_executor(folder: Path) -> Iterator[Executor]:
    """That of :func:`dask_client`."""
    with dask_client(folder) as client:
        yield client.get_executor()


@contextmanager
def losing_a_worker(client: Client) -> Iterator[list[int]]:
    """Kill the first worker that has something to do; yields its process id, once there is one."""
    killed: list[int] = []
    pids, over = client.run(os.getpid), threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            busy = [worker for worker, tasks in client.processing().items() if tasks and worker in pids]
            if busy:
                os.kill(pids[busy[0]], signal.SIGKILL)
                killed.append(pids[busy[0]])
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield killed
    finally:
        over.set()
        watcher.join()
