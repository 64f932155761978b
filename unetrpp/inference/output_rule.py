"""From the final mean probabilities to what is written: calibrated by the temperature, and decided with thresholds."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from unetrpp.core.errors import UserError
from unetrpp.core.text import listed
from unetrpp.dataset.labels import LabelScheme
from unetrpp.inference.averaging import arg_max, decide


@dataclass(frozen=True)
class OutputRule:
    """How mean probabilities (K, ...) become maps and decisions.

    Args:
        scheme: the labels.
        temperatures: one for the softmax, or one for each region; empty: 1.
        thresholds: output channel -> the probability from which its class or region is predicted.
    """

    scheme: LabelScheme
    temperatures: tuple[float, ...] = ()
    thresholds: Mapping[int, float] | None = None

    def calibrated(self, mean: Tensor) -> Tensor:
        """p^(1/T), renormalised over the classes; of a region over itself and its complement. The same tensor where T is 1."""
        if all(temperature == 1 for temperature in self.temperatures):
            return mean
        if self.scheme.overlapping:
            inverse = 1 / torch.tensor(self.temperatures, dtype=mean.dtype, device=mean.device)
            return (mean.logit() * inverse.view(-1, *(1,) * (mean.ndim - 1))).sigmoid()
        return (mean.log() / self.temperatures[0]).softmax(dim=0)  # in logarithms, as small powers underflow

    def decide(self, mean: Tensor) -> Tensor:
        """(K, ...) -> (...), for ``LabelScheme.decode``.

        Without thresholds as :func:`unetrpp.inference.averaging.decide` does, of the mean before the temperature, which
        changes no order. With thresholds, of the calibrated one: a region wins from its own instead of above one half, and
        the last of them is taken as always. Of several classes that reach theirs the most probable one is taken; where none
        does, the most probable of the classes without one.
        """
        if not self.thresholds:
            return decide(mean, self.scheme)
        probability = self.calibrated(mean)
        return self._last_region(mean, probability) if self.scheme.overlapping else self._class(probability)

    def _last_region(self, mean: Tensor, probability: Tensor) -> Tensor:
        winner = torch.zeros(mean.shape[1:], dtype=torch.int16, device=mean.device)
        for k in range(len(mean)):
            limit = (self.thresholds or {}).get(k)
            winner.masked_fill_(mean[k] > 0.5 if limit is None else probability[k] >= limit, k + 1)
        return winner

    def _class(self, probability: Tensor) -> Tensor:
        others, reaching = probability.clone(), torch.full_like(probability, -1)
        for k, limit in (self.thresholds or {}).items():
            others[k] = -1
            reaching[k] = probability[k].where(probability[k] >= limit, -1)
        any_reaches = reaching.amax(dim=0) >= 0
        return torch.where(any_reaches, arg_max(reaching), arg_max(others))


def channel_thresholds(scheme: LabelScheme, by_name: Mapping[str, float]) -> dict[int, float]:
    """Output channel -> threshold, of thresholds by the name of a class or region.

    Raises:
        UserError: there is no such class or region, or the threshold is not between 0 and 1.
    """
    channels = {channel.name: k for k, channel in enumerate(scheme.output_channels)}
    known = [target.name for target in scheme.targets]
    for name, value in by_name.items():
        if name not in known:
            what = "region" if scheme.overlapping else "foreground class"
            raise UserError(f"a threshold is given for {name!r}, which is no {what}; there is {listed(known, 20)}")
        if not 0 < value < 1:
            raise UserError(f"the threshold of {name!r} is {value:g}; it must be above 0 and below 1")
    return {channels[name]: float(value) for name, value in by_name.items()}
