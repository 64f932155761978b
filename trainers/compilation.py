"""torch.compile after a probe: where it fails, training goes on without it and says so in one line."""

import copy
import logging
from collections.abc import Callable

import torch

LOG = logging.getLogger(__name__)


def compile_network(network: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> bool:
    """Compile ``network`` in place if one forward and backward pass through it works; says whether it did.

    ``loss`` runs the network. The probe leaves no trace: weights, running statistics and gradients are as before.
    """
    before = copy.deepcopy(network.state_dict())
    try:
        network.compile()
        loss().backward()
    except Exception as error:
        # What a compiler may raise is open-ended; without it everything still works, only slower.
        network._compiled_call_impl = None
        LOG.warning(
            "torch.compile does not work here (%s); going on without it", str(error).strip().splitlines()[0][:120]
        )
        return False
    finally:
        network.load_state_dict(before)
        network.zero_grad(set_to_none=True)
    return True
