"""Which skip connections get a focal gate, and with which gamma (ours; docs/focal_attention.md).

A level's bits say how hard its foreground is to find (:func:`unetrpp.planners.measure.occupancy.foreground_bits`).
From the bottleneck up, a skip gets a gate where the bits increase.
"""

from collections.abc import Sequence

LEAST_GAIN = 0.5  # bits more than at the last gate (or the bottleneck), from which on there is a gate
GATE_GAMMAS = (0.5, 2.0)  # smallest and largest


def gate_gammas(bits: Sequence[float], names: Sequence[str]) -> tuple[list[float | None], list[str]]:
    """The gamma of the gate on each level's skip (None: no gate) and the reason; the deepest level has no skip.

    Args:
        bits: one per level, full resolution first.
        names: of the levels, for the reasons.

    >>> gate_gammas([2.6, 1.0, 0.9], ["1", "4", "8"])[0]
    [1.7000000000000002, None, None]
    """
    gammas: list[float | None] = [None] * len(bits)
    reasons = [""] * len(bits)
    last, where = bits[-1], "the bottleneck"
    for i in range(len(bits) - 2, -1, -1):
        gain = bits[i] - last
        reasons[i] = (
            f"{bits[i]:.2f} bits to find the foreground, {last:.2f} at {where}: {gain:.2f} more (a gate if at least {LEAST_GAIN})"
        )
        if gain >= LEAST_GAIN:
            gammas[i] = min(max(gain, GATE_GAMMAS[0]), GATE_GAMMAS[1])
            reasons[i] += f"; {GATE_GAMMAS[1]:g} is the largest gamma" if gain > GATE_GAMMAS[1] else ""
            last, where = bits[i], f"stride {names[i]}"
    return gammas, reasons
