"""The training cases that learning attention holds out until it judges the attention modules on them."""

from collections.abc import Mapping, Sequence

from unetrpp.core.errors import UserError
from unetrpp.core.randomness import Stream, generator

SHARE = 0.1  # of the training cases, at least one


def held_out(cases: Sequence[str], groups: Mapping[str, str], seed: int, fold: int) -> set[str]:
    """A tenth of a fold's training cases; of its patients where ``groups`` (case -> patient) names them.

    Raises:
        UserError: no case would be left to train on.

    >>> len(held_out([f"case_{i}" for i in range(40)], {}, seed=0, fold=0))
    4
    """
    patient = {case: groups.get(case, case) for case in cases}
    patients = sorted(set(patient.values()))
    if len(patients) < 2:
        raise UserError(
            f"--learn-attention judges on training cases that it holds out, but fold {fold} trains on a single case (or "
            "patient); add cases, or train without it"
        )
    count = max(1, round(SHARE * len(patients)))
    chosen = generator(seed, fold, Stream.INNER_SPLIT).choice(len(patients), count, replace=False)
    taken = {patients[i] for i in chosen}
    return {case for case in cases if patient[case] in taken}
