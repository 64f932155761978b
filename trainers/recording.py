"""A network's passes of training as two CUDA graphs, which the host starts with one call each."""

import logging

import torch
from torch import Tensor, nn

from unetrpp.networks.build import blocks_of
from unetrpp.trainers.unchanged import unchanged

LOG = logging.getLogger(__name__)
TOLERANCE = 0.02  # of output and gradients: cuDNN may choose other kernels in a graph


def record_network(network: nn.Module, images: Tensor, autocast: torch.autocast) -> bool:
    """Record ``forward`` in training, and its backward pass, in place; returns whether that worked.

    A graph repeats its kernels in the memory that they had: it is for batches of one shape, and what the host decides in
    ``forward`` stays decided, so networks of other packages are left alone. In evaluation the network runs as written. The
    outputs and gradients of a step are overwritten by the next one. Weights, statistics and gradients are as before.

    Args:
        images: a batch on the GPU, (B, C, *patch).
        autocast: as in training, but without its cache: every replay must cast the weights anew.
    """
    if not any(blocks_of(network)):
        return False
    try:
        with torch.cuda.device(images.device), unchanged(network), autocast:
            network.train()
            written = one_pass(network, images)
            torch.cuda.empty_cache()  # the graphs have memory of their own
            torch.cuda.make_graphed_callables(network, (images,), allow_unused_input=True)
            # Autograd remembers the stream of the recording. That is harmless, and torch would warn of it in the next pass.
            if hasattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch"):
                torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
            torch.testing.assert_close(
                one_pass(network, images), written, rtol=TOLERANCE, atol=0, equal_nan=True, msg="they compute otherwise"
            )
            network.eval()
            with torch.no_grad():
                network(images)  # validation must fit beside them
    except Exception as error:
        # As for a compiler: whatever fails, the network as written still works.
        vars(network).pop("forward", None)
        torch.cuda.empty_cache()
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        LOG.warning("CUDA graphs do not work here (%s); training continues without them", reason)
        return False
    return True


def one_pass(network: nn.Module, images: Tensor) -> Tensor:
    """The mean square of the outputs and the norm of its gradients, with a fixed seed of dropout; leaves no gradients."""
    torch.manual_seed(0)
    outputs: list[Tensor] = network(images)
    value = torch.stack([output.float().square().mean() for output in outputs]).sum()
    torch.autograd.backward(value)
    norms = torch.stack([p.grad.norm() for p in network.parameters() if p.grad is not None])
    network.zero_grad(set_to_none=True)
    return torch.stack([value.detach(), norms.norm()])
