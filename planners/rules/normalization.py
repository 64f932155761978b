"""How each channel is normalised, by its name: nnU-Net v2's rule 10, except that a misspelt name is an error."""

from difflib import get_close_matches

from unetrpp.core.errors import UserError
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Decision, Normalization, NormalizationScheme

# Channel name (any case) -> scheme; every other name means a z-score.
SCHEMES: dict[str, NormalizationScheme] = {
    "ct": "ct",
    "nonorm": "none",
    "zscore": "zscore",
    "rescale_0_1": "rescale_0_1",
    "rescale_to_0_1": "rescale_0_1",
    "rgb_to_0_1": "rgb_to_0_1",
}
MASKED_BELOW = 0.75  # median share of the volume that cropping kept
WHY: dict[NormalizationScheme, str] = {
    "ct": "CT has absolute values: clipped to the foreground's 0.5-99.5 %, then the dataset's mean and std",
    "none": "the name asks for the values as they are",
    "zscore": "a name without absolute values: mean and std of each image",
    "rescale_0_1": "the name asks for each image's range to become 0-1",
    "rgb_to_0_1": "the name asks for bytes to become 0-1",
}


def plan_normalization(
    channels: tuple[str, ...], fingerprint: Fingerprint
) -> tuple[tuple[Normalization, ...], list[Decision]]:
    """One entry per channel, and its decision.

    Raises:
        UserError: a name looks like a misspelt known one.
    """
    kept = fingerprint.median_relative_size_after_crop
    plans, decisions = [], []
    for name, statistics in zip(channels, fingerprint.intensities, strict=True):
        scheme = _scheme(name)
        masked = scheme == "zscore" and kept < MASKED_BELOW
        value, why = str(scheme), WHY[scheme]
        if scheme == "ct":
            value += f", {statistics.percentile_00_5:.4g} to {statistics.percentile_99_5:.4g} HU"
            why += f" ({statistics.mean:.4g} and {statistics.std:.4g})"
        if masked:
            value += " inside the non-zero mask"
            why += f"; cropping kept {kept:.0%} of the median case, less than {MASKED_BELOW:.0%}"
        plans.append(Normalization(channel=name, scheme=scheme, statistics=statistics, masked=masked))
        decisions.append(Decision(about=f"normalisation of {name}", value=value, why=why))
    return tuple(plans), decisions


def _scheme(channel: str) -> NormalizationScheme:
    """
    >>> _scheme("CT"), _scheme("T1")
    ('ct', 'zscore')
    """
    name = channel.casefold()
    if name in SCHEMES:
        return SCHEMES[name]
    letters = {_letters(known): known for known in SCHEMES}
    near = get_close_matches(_letters(name), letters, n=1, cutoff=1.0 if len(_letters(name)) < 4 else 0.85)
    if near:
        raise UserError(f"channel {channel!r} looks like {letters[near[0]]!r}; correct it, or rename the channel")
    return "zscore"


def _letters(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())
