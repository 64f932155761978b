"""torch.compile with a trial: where it does not work, training continues without it after one warning."""

import copy
import logging
from collections.abc import Callable

import torch

LOG = logging.getLogger(__name__)


def compile_network(network: torch.nn.Module, probe: Callable[[], torch.Tensor]) -> bool:
    """Compile ``network`` in place if one forward and backward pass through it works; returns whether it did.

    ``probe`` runs the network and returns a scalar. Afterwards weights, running statistics and gradients are as before.
    """
    before = copy.deepcopy(network.state_dict())
    try:
        network.compile()
        torch.autograd.backward(probe())
    except Exception as error:
        # A compiler may raise anything. Without it everything still works, only slower.
        network._compiled_call_impl = None
        reason = str(error).strip().splitlines()[0][:120]
        LOG.warning("torch.compile does not work here (%s); training continues without it", reason)
        return False
    finally:
        network.load_state_dict(before)
        network.zero_grad(set_to_none=True)
    return True
