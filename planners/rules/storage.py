"""The precision in which preprocessed images are stored on disk."""

from collections.abc import Sequence

from unetrpp.core.errors import UserError
from unetrpp.planners.options import StoredType
from unetrpp.plans.plans import Decision, Normalization


def plan_storage(stored: StoredType, normalization: Sequence[Normalization]) -> list[Decision]:
    """The decision for half precision; none for float32.

    A z-score never exceeds the root of the number of voxels, and the other schemes end near 0 to 1, so normalised
    values cannot overflow 65504; unnormalised values can, and would keep only three digits.

    Raises:
        UserError: half precision was requested, and a channel is not normalised.
    """
    if stored == "float32":
        return []
    raw = next((n.channel for n in normalization if n.scheme == "none"), None)
    if raw is not None:
        raise UserError(
            f"--store float16 is for normalised channels, but {raw!r} is not normalised, and float16 cannot hold values above 65504; "
            "leave one of the two out"
        )
    why = "asked for: 2 bytes per voxel on disk instead of 4; a stored value differs by at most 0.05%"
    return [Decision(about="stored images", value=stored, why=why)]
