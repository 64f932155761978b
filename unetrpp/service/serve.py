"""`serve`: the work of the command unetrpp_serve as one call from Python, with the same options."""

import logging
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from unetrpp.core.errors import UserError
from unetrpp.core.leftovers import remove_leftovers, temporary_name
from unetrpp.core.progress import show_bars_elsewhere
from unetrpp.inference.options import InferenceOptions
from unetrpp.model.folds import Folds
from unetrpp.service.access import read_token
from unetrpp.service.app import Service
from unetrpp.service.line import Line
from unetrpp.service.segmenter import Segmenter

LOG = logging.getLogger(__name__)
LAST_PORT = 65535
MEGABYTE = 2**20
END_S = 30  # for requests that are in the line when the service ends


@dataclass(frozen=True)
class ServiceResult:
    """What :func:`serve` did until it was ended."""

    model: Path
    address: str
    requests: int  # that were computed


def serve(
    model: Path | str,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    token_file: Path | str | None = None,
    queue: int = 16,
    largest_mb: int = 1024,
    folds: Folds | None = None,
    mirroring: bool = True,
    device: str = "auto",
) -> ServiceResult:
    """Answer requests with a model until Ctrl-C or SIGTERM, as the command `unetrpp_serve` does (docs/serving.md).

    Args:
        model: a model folder.
        host: the address to listen at; another than this machine's own needs a token.
        port: 0 takes a free one.
        token_file: a file with the token that requests must have.
        queue: requests that may wait beside the one that is computed.
        largest_mb: of an upload, and of an image in memory, in MB.
        folds: as of :func:`unetrpp.predict`.
        mirroring: average over mirrored passes; False is up to 8 times faster.
        device: auto, cpu, cuda, cuda:1 or mps.

    Raises:
        UserError: the model, the token or the address cannot be used.
    """
    token = read_token(None if token_file is None else Path(token_file), host)
    options = InferenceOptions(folds=folds, mirroring=mirroring, device=device)
    with _listening(host, port) as listener, _folder() as folder:
        segmenter = Segmenter(Path(model), options, largest_mb * MEGABYTE)
        service = Service(segmenter, Line(queue), folder, token)
        address = _address(listener)
        LOG.info("%s answers at %s; Ctrl-C ends it", segmenter.model.path.resolve().name, address)
        show_bars_elsewhere(lambda _: None)
        config = uvicorn.Config(
            service.app(),
            log_config=None,
            access_log=False,  # addresses of requests have names of files
            server_header=False,
            timeout_graceful_shutdown=END_S,
        )
        with suppress(KeyboardInterrupt):  # which uvicorn raises again once it has ended
            uvicorn.Server(config).run(sockets=[listener])
        return ServiceResult(segmenter.model.path, address, service.line.done)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """
    Raises:
        UserError: the address is in use, or not one of this machine.
    """
    if port > LAST_PORT:
        raise UserError(f"--port is {port}; it must be at most {LAST_PORT}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(
            f"{host} port {port} cannot be listened at ({error.strerror}); give another --host or --port"
        ) from None
    with listener:
        yield listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder that nobody else may read, for the files of requests. What a killed service left is removed first."""
    place = Path(tempfile.gettempdir())
    remove_leftovers(place)
    folder = place / temporary_name("serve")
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
