"""torch.compile with a trial: where it does not work, training continues without it after one warning."""

import logging
from collections.abc import Callable

import torch

from unetrpp.trainers.distributed import Processes
from unetrpp.trainers.unchanged import unchanged

LOG = logging.getLogger(__name__)


def compile_everywhere(network: torch.nn.Module, probe: Callable[[], torch.Tensor], processes: Processes) -> None:
    """:func:`compile_network` in all processes at the same time.

    Raises:
        UserError: it works in some processes only. Synchronised batch norm may then wait for the others forever.
    """
    LOG.info("compiling the network, which may take minutes; --no-compile starts without it")
    works = compile_network(network, probe)
    one_works, one_fails = processes.all_reduce_max(works, not works)
    if one_works and one_fails:
        raise processes.rank_zero_error("torch.compile works in some of the processes only; train with --no-compile")


def compile_network(network: torch.nn.Module, probe: Callable[[], torch.Tensor]) -> bool:
    """Compile ``network`` in place if passes of training and of validation through it work; returns whether they did.

    ``probe`` runs the network on a batch and returns a scalar. Afterwards weights, running statistics and gradients are
    as before. Every later batch has the same shape, so nothing is compiled after the trial.
    """
    torch.compiler.reset()  # forget an earlier fold's network: torch stops compiling after a number of variants
    try:
        with unchanged(network):
            network.compile(dynamic=False)
            network.train()
            torch.autograd.backward(probe())
            network.eval()
            with torch.no_grad():
                probe()
    except Exception as error:
        # A compiler may raise anything. Without it everything still works, only slower.
        network._compiled_call_impl = None
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        LOG.warning("torch.compile does not work here (%s); training continues without it", reason)
        return False
    return True
