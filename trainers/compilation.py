"""torch.compile with a trial: where it does not work, training continues without it after one warning."""

import logging
import warnings
from collections.abc import Callable
from types import FunctionType, MethodType

import torch

from unetrpp.networks.build import blocks_of
from unetrpp.trainers.distributed import Processes
from unetrpp.trainers.unchanged import unchanged

LOG = logging.getLogger(__name__)
# The compiler looks whether what a block is given has a gradient, and torch warns of that for all but weights.
NO_LEAF = "The .grad attribute of a Tensor that is not a leaf"
# Of one kind of block. Each has two for every size that it is used at, and a U-Net may have blocks of its widest kind, with a
# stride and without, at many levels; torch's own limit of 8 would leave some of them uncompiled.
MOST_VARIANTS = 64


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
    """Compile the blocks of ``network`` in place if passes of training and of validation through it work; returns whether they did.

    ``probe`` runs the network on a batch and returns a scalar. Afterwards weights, running statistics and gradients are
    as before. Every later batch has the same shape, so nothing is compiled after the trial.
    """
    torch.compiler.reset()  # forget an earlier fold's network: torch stops compiling after a number of variants
    try:
        limit = torch._dynamo.config.patch(cache_size_limit=MOST_VARIANTS)  # its name in every torch from 2.5 on
        with unchanged(network), limit, warnings.catch_warnings():
            warnings.filterwarnings("ignore", NO_LEAF)
            compile_blocks(network)
            network.train()
            torch.autograd.backward(probe())
            network.eval()
            with torch.no_grad():
                probe()
    except Exception as error:
        # A compiler may raise anything. Without it everything still works, only slower.
        interpret_blocks(network)
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        LOG.warning("torch.compile does not work here (%s); training continues without it", reason)
        return False
    return True


def compile_blocks(network: torch.nn.Module) -> None:
    """Compile the ``forward`` of every block; blocks of one kind and size share what is compiled.

    A network as one graph takes a compiler minutes: UNETR++ repeats a few blocks, and the time grows faster than the graph.
    """
    shared: dict[object, Callable[..., torch.Tensor]] = {}
    for block in _parts(network):
        kind = (type(block), *(value.shape for value in block.state_dict().values()))
        if kind not in shared:
            shared[kind] = torch.compile(_copy(type(block).forward), dynamic=False)
        block.forward = MethodType(shared[kind], block)


def interpret_blocks(network: torch.nn.Module) -> None:
    """Undo :func:`compile_blocks`."""
    for block in _parts(network):
        vars(block).pop("forward", None)


def _parts(network: torch.nn.Module) -> list[torch.nn.Module]:
    """What is compiled apart: the blocks, or the whole network of a plugin that has none of ours."""
    return list(blocks_of(network)) or [network]


def _copy(function: Callable[..., torch.Tensor]) -> FunctionType:
    """A function with a code object of its own: at every call torch looks through all variants that were compiled for one."""
    assert isinstance(function, FunctionType)
    copy = FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
