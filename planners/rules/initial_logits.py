"""Initial biases of the heads of a new network, from the frequency of each class (Lin et al., arXiv 1708.02002, section 4.1)."""

import math
from typing import NamedTuple

from unetrpp.dataset.labels import LabelScheme
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Decision

LEAST = 0.01  # rarer classes start at this share (the paper's pi), or their gradients would vanish


class InitialLogits(NamedTuple):
    logits: tuple[float, ...]  # one per output
    decision: Decision


def plan_initial_logits(fingerprint: Fingerprint, labels: LabelScheme) -> InitialLogits:
    """Logits whose softmax (sigmoid, with regions) is the mean share of each class in the cropped images."""
    shares = {c: max(LEAST, _mean_share(fingerprint, labels.names[c])) for c in labels.foreground}
    if labels.regions:
        parts = [min(0.5, sum(shares[c] for c in region.members if c)) for region in labels.regions]
        logits = tuple(math.log(part / (1 - part)) for part in parts)
    else:
        parts = [max(LEAST, 1 - sum(shares.values())), *shares.values()]
        logits = tuple(math.log(part) for part in parts)
    value = ", ".join(f"{part:.2g}" for part in parts)
    what = "region" if labels.regions else "class"
    why = (
        f"each {what}'s mean share of the images, at least {LEAST:g}, so that no step is spent on unlearning foreground"
    )
    return InitialLogits(tuple(round(x, 4) for x in logits), Decision(about="first output", value=value, why=why))


def _mean_share(fingerprint: Fingerprint, name: str) -> float:
    """Mean share of a class over all cases; a case without it counts as 0."""
    shares = [
        case.classes[name].voxels / math.prod(case.cropped_shape) if name in case.classes else 0.0
        for case in fingerprint.cases
    ]
    return sum(shares) / len(shares)
