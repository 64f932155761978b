"""Computing cases on a Dask cluster instead of in processes of this machine: what ``--executor`` does (the extra "dask")."""

import logging
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted

LOG = logging.getLogger(__name__)
ADDRESS = re.compile(r"dask=(?:local:([1-9]\d*)|((?:tcp|tls)://\S+))")
_CHOSEN: ContextVar[Executor | None] = ContextVar("executor", default=None)


def current_executor() -> Executor | None:
    """The executor of the surrounding :func:`cluster`; None outside of one."""
    return _CHOSEN.get()


@contextmanager
def cluster(executor: str) -> Iterator[None]:
    """While entered, cases are computed by the workers of a cluster: :func:`unetrpp.core.parallel.run_cases` sends them there.

    Scripts that start a local one need ``if __name__ == "__main__":``.

    Args:
        executor: ``dask=tcp://HOST:PORT``, a scheduler whose workers see the same files under the same paths; or
            ``dask=local:N``, a scheduler and N workers on this machine that end with the block.

    Raises:
        UserError: ``executor`` is neither of them, Dask is not installed, or no scheduler answers.
    """
    found = ADDRESS.fullmatch(executor)
    if found is None:
        raise UserError(f"--executor {executor} is neither dask=tcp://HOST:PORT nor dask=local:WORKERS")
    try:
        import dask
        from distributed import Client, LocalCluster
    except ModuleNotFoundError as error:
        raise UserError(f'--executor {executor} needs the package distributed; pip install "unetrpp[dask]"') from error
    with ExitStack() as stack:
        address = found[2]
        if address is None:
            # A case that kills its worker is not tried on the others first: run_cases runs each unfinished one once more, alone.
            stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="unetrpp-dask-"))
            options = {"threads_per_worker": 1, "dashboard_address": None, "local_directory": folder}
            started = LocalCluster(n_workers=int(found[1]), silence_logs=logging.CRITICAL, **options)
            address = stack.enter_context(started).scheduler_address
        try:
            client = stack.enter_context(Client(address))
        except (OSError, TimeoutError, ValueError) as error:
            hint = "start one with `dask scheduler`, and workers with `dask worker`"
            raise UserError(f"--executor {executor}: no scheduler answers there ({error}); {hint}") from None
        if workers := len(client.ncores()):
            LOG.info("%s: %s", executor, counted(workers, "worker"))
        else:
            LOG.warning("%s has no workers, so nothing is computed until one joins: dask worker %s", executor, address)
        token = _CHOSEN.set(client.get_executor())
        try:
            yield
        finally:
            _CHOSEN.reset(token)
