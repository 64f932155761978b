"""A running service for tests: uvicorn in a thread, and requests to it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn

from unetrpp.inference.options import InferenceOptions
from unetrpp.service.app import Service
from unetrpp.service.line import Line
from unetrpp.service.segmenter import Segmenter

LARGEST = 2**20


def service_of(
    model: Path, folder: Path, *, queue: int = 16, largest: int = LARGEST, token: str | None = None
) -> Service:
    """A service of one fold; files of requests are in ``folder``."""
    folder.mkdir(exist_ok=True)
    options = InferenceOptions(folds="0", device="cpu", mirroring=False)
    return Service(Segmenter(model, options, largest), Line(queue), folder, token)


@contextmanager
def running(service: Service) -> Iterator[httpx.Client]:
    """A client of the service while it runs."""
    server = uvicorn.Server(uvicorn.Config(service.app(), port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
