"""Initial biases of the heads of a new network, from the frequency of each class (Lin et al., arXiv 1708.02002, section 4.1)."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from unetrpp.core.text import counted
from unetrpp.dataset.labels import LabelScheme
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Decision

MOST_NAMED = 6  # outputs in the decision's value
LEAST = 0.01  # rarer classes start at this share (the paper's pi), or their gradients would vanish
LEAST_TOGETHER = 0.1  # of all rarer classes; more of them start at a smaller share, or no background would be left


class InitialLogits(NamedTuple):
    logits: tuple[float, ...]  # one per output
    decision: Decision


def plan_initial_logits(fingerprint: Fingerprint, labels: LabelScheme) -> InitialLogits:
    """Logits whose softmax (sigmoid, with regions) is the mean share of each class in the cropped images."""
    measured = {c: _mean_share(fingerprint, labels.names[c]) for c in labels.foreground}
    floor = min(LEAST, LEAST_TOGETHER / max(1, sum(share < LEAST for share in measured.values())))
    shares = {c: max(floor, share) for c, share in measured.items()}
    if labels.regions:
        parts = [min(0.5, sum(shares[c] for c in region.members if c)) for region in labels.regions]
        logits = tuple(math.log(part / (1 - part)) for part in parts)
    else:
        parts = [max(LEAST, 1 - math.fsum(shares.values())), *shares.values()]
        logits = tuple(math.log(part) for part in parts)
    raised = sum(share < floor for share in measured.values())
    return InitialLogits(tuple(round(x, 4) for x in logits), _decision(labels, parts, floor, raised))


def _decision(labels: LabelScheme, parts: Sequence[float], floor: float, raised: int) -> Decision:
    """``parts``: the share of every output; ``raised``: how many classes are rarer than the ``floor``."""
    named = dict(zip([region.name for region in labels.regions] or labels.names, parts, strict=True))
    what = "region" if labels.regions else "class"
    why = f"the mean share of each {what} in the cropped images, so that training need not first unlearn foreground"
    if not labels.regions:
        why += f"; the background has the remaining {parts[0]:.2g}"
    if raised:
        why += f"; {counted(raised, 'class is', 'classes are')} rarer than {floor:.2g}, the floor, which counts instead"
    return Decision(about="initial prediction", value=_listed(named), why=why)


def _listed(named: Mapping[str, float]) -> str:
    """Names with their shares; of many, the largest."""
    pairs = [f"{name} {part:.2g}" for name, part in named.items()]
    if len(pairs) <= MOST_NAMED:
        return ", ".join(pairs)
    ordered = sorted(zip(named.values(), pairs, strict=True), key=lambda found: -found[0])  # ties as in dataset.json
    largest = [pair for _, pair in ordered[:MOST_NAMED]]
    return f"{', '.join(largest)}; {len(pairs) - MOST_NAMED} more of at least {min(named.values()):.2g}"


def _mean_share(fingerprint: Fingerprint, name: str) -> float:
    """Mean share of a class over all cases; a case without it counts as 0."""
    shares = [
        case.classes[name].voxels / math.prod(case.cropped_shape) if name in case.classes else 0.0
        for case in fingerprint.cases
    ]
    return math.fsum(shares) / len(shares)  # exact, so the order of the cases does not matter
