"""How each channel is normalised, by its name: nnU-Net v2's rule 10, except that a misspelt name is an error."""

import statistics
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
BODY_BELOW = 2 / 3  # median share of the crop that is no background; a ball fills 0.52 of its box
WHY: dict[NormalizationScheme, str] = {
    "ct": "CT has absolute values: clipped to the foreground's 0.5th to 99.5th percentile, then the dataset's mean and std",
    "none": "the channel's name asks for unchanged values",
    "zscore": "only the name CT stands for absolute values here, so each image is brought to mean 0 and std 1",
    "rescale_0_1": "the channel's name asks for each image's range to be scaled to 0-1",
    "rgb_to_0_1": "the channel's name asks for 0-255 to be scaled to 0-1",
}


def plan_normalization(
    channels: tuple[str, ...], fingerprint: Fingerprint
) -> tuple[tuple[Normalization, ...], list[Decision]]:
    """One entry per channel, and its decision.

    Raises:
        UserError: a name looks like a misspelt known one.
    """
    mask = _background(fingerprint)
    plans, decisions = [], []
    for name, measured in zip(channels, fingerprint.intensities, strict=True):
        scheme = _scheme(name)
        masked = scheme == "zscore" and mask is not None
        value, why = str(scheme), WHY[scheme]
        if scheme == "ct":
            value += f", {measured.percentile_00_5:.4g} to {measured.percentile_99_5:.4g} HU"
            why += f" ({measured.mean:.4g} and {measured.std:.4g} HU)"
        if masked:
            value += " inside the non-zero mask"
            why += f"; {mask}"
        plans.append(Normalization(channel=name, scheme=scheme, statistics=measured, masked=masked))
        decisions.append(Decision(about=f"normalisation of {name}", value=value, why=why))
    return tuple(plans), decisions


def _background(fingerprint: Fingerprint) -> str | None:
    """Why z-scores are taken inside the mask; None where they are not (nnU-Net's rule 10).

    Ours: air around the body does not suffice, or the mask would hang on how much of it the images have. The crop has to hold
    background, too, as that of a brain without its skull does.
    """
    kept = fingerprint.median_relative_size_after_crop
    shares = [case.body_share for case in fingerprint.cases if case.body_share is not None]
    body = statistics.median(shares) if shares else 0.0  # release 0.1.0 did not measure it
    if kept >= MASKED_BELOW or body >= BODY_BELOW:
        return None
    why = f"cropping kept {kept:.0%} of the median case (limit {MASKED_BELOW:.0%})"
    return f"{why}, of which {body:.0%} is not background (limit {BODY_BELOW:.0%})" if shares else why


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
        raise UserError(
            f"channel {channel!r} looks like {letters[near[0]]!r}; write it so, or choose a name less like it"
        )
    return "zscore"


def _letters(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())
