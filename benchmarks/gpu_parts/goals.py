"""What is wanted of a GPU of the class of an A100, and whether a measurement reaches it.

For comparison: on an A100 nnU-Net's documentation gives 32 s for an epoch of its default network, 126 s for ResEnc L.
"""

from benchmarks.gpu_parts.cells import NO_GOAL, Outcome, Values, Verdict

EPOCH_STEPS, EPOCH_S = 250, 15.0  # the synapse preset at batch 2 in bf16, compiled
LEAST_BUSY = 0.95  # share of a step in which the GPU computes
MEMORY = 0.10  # between the planned memory and the most that is reserved


def epoch(values: Values) -> Verdict:
    seconds = values["epoch_s"]
    return _verdict(seconds < EPOCH_S, f"{seconds:.1f} s an epoch of {EPOCH_STEPS} steps, below {EPOCH_S:g} wanted")


def busy(values: Values) -> Verdict:
    if "busy" not in values:
        return NO_GOAL
    return _verdict(values["busy"] >= LEAST_BUSY, f"busy {values['busy']:.0%}, {LEAST_BUSY:.0%} wanted")


def memory(values: Values) -> Verdict:
    """Plans are made for half precision."""
    if "reserved_gb" not in values:
        return NO_GOAL
    ratio = values["reserved_gb"] / values["planned_gb"]
    return _verdict(abs(ratio - 1) <= MEMORY, f"reserved is {ratio:.2f} of the plan, within {MEMORY:.0%} wanted")


def reading(values: Values) -> Verdict:
    if "steps_a_s" not in values:
        return NO_GOAL
    enough = values["batches_a_s"] >= values["steps_a_s"]
    return _verdict(enough, f"a GPU that never waits takes {values['steps_a_s']:.1f} batches/s")


def card(values: Values) -> Verdict:
    if "used_gb" not in values:
        return NO_GOAL
    return _verdict(values["used_gb"] <= values["card_gb"], f"planned for {values['card_gb']:g} GB")


def all_of(*verdicts: Verdict) -> Verdict:
    """Missed where one is missed; the reasons of those that have a goal."""
    outcomes = [verdict.outcome for verdict in verdicts]
    outcome: Outcome = "missed" if "missed" in outcomes else "met" if "met" in outcomes else "no goal"
    return Verdict(outcome, "; ".join(verdict.why for verdict in verdicts if verdict.why))


def _verdict(reached: bool, why: str) -> Verdict:
    return Verdict("met" if reached else "missed", why)
