"""Drop path: in training, a residual branch is left out for random samples of a batch (Huang et al., arXiv 1603.09382)."""

from torch import Tensor, nn

from unetrpp.core.errors import UserError


class DropPath(nn.Module):
    """Multiplies a sample's branch (B, ...) by 0 with probability ``rate``, else by 1 / (1 - rate); the identity in evaluation."""

    rate = 0.0

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        kept = branch.new_empty((len(branch), *[1] * (branch.ndim - 1))).bernoulli_(1 - self.rate)
        return branch * kept.div_(1 - self.rate)


def set_drop_path(network: nn.Module, rate: float) -> None:
    """Let the rates of all branches grow evenly from 0 at the first to ``rate`` at the last.

    Raises:
        UserError: there are none, as in a plain U-Net.
    """
    branches = [module for module in network.modules() if isinstance(module, DropPath)]
    if rate and not branches:
        raise UserError("this network has no residual branches to drop; leave out --drop-path")
    for i, branch in enumerate(branches):
        branch.rate = rate * i / max(1, len(branches) - 1)
