"""In which precision preprocessed images are stored; training computes in its own."""

from collections.abc import Sequence
from typing import Literal

from unetrpp.core.errors import UserError
from unetrpp.plans.plans import Decision, Normalization

StoredType = Literal["float32", "float16"]


def plan_storage(stored: StoredType, normalization: Sequence[Normalization]) -> list[Decision]:
    """Why images are stored in half precision; no decision where they are not.

    A z-score never exceeds the root of the number of voxels, and the other schemes end near 0 to 1, so normalised
    values cannot overflow 65504; values as they are can, and would keep three digits only.

    Raises:
        UserError: a channel is stored as it is.
    """
    if stored == "float32":
        return []
    raw = next((n.channel for n in normalization if n.scheme == "none"), None)
    if raw is not None:
        raise UserError(
            f"--store float16 is for normalised channels, but {raw!r} keeps its values, and float16 ends at 65504; "
            "leave one of the two out"
        )
    why = "asked for: 2 bytes a voxel on disk instead of 4; a stored value is off by at most 0.05 %"
    return [Decision(about="stored images", value=stored, why=why)]
