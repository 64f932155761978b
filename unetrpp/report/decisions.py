"""What the plans' decisions mean, in a sentence for readers who do not build networks."""

from collections.abc import Sequence

from unetrpp.plans.plans import Decision
from unetrpp.report.page import Card

MEANINGS = {
    "target spacing": "The voxel size to which every image is resampled before the network sees it.",
    "axis order": "The order of the axes, beginning with the one along which slices are stacked; patch sizes are given in this order.",
    "normalisation of": "How the intensities of a channel are scaled, so that images of different scanners look alike.",
    "mirroring": "Along which axes images are flipped in training and prediction, so that the network also learns mirrored anatomy.",
    "first output": "What a new network predicts before it has learned anything.",
    "initial prediction": "What a new network predicts before it has learned anything.",
    "stored images": "How precisely preprocessed images are stored on disk.",
    "median image": "The size of a typical image after resampling; half of the images are smaller.",
    "patch": "The block that the network sees at once; a larger image is covered by overlapping blocks.",
    "downsampling": "By how much the image becomes coarser from one stage of the network to the next.",
    "batch size": "How many patches the network learns from in one step.",
    "rotation": "By how much training images are rotated at random, so that the network copes with other orientations.",
    "Dice": "Whether the overlap with the reference is computed for each patch or over all patches of a batch during training.",
    "attention": "Which parts of the network learn where in the image to look.",
    "gates": "Whether features are weighted by place or channel on their way through the network.",
    "skip": "Whether a gate weights what the decoder gets from the encoder at this resolution; a higher gamma suppresses more.",
    "gate": "Whether a gate weights what the decoder gets from the encoder at this resolution; a higher gamma suppresses more.",
    "squeeze-and-excitation": "Whether the features of this resolution are weighted channel by channel.",
    "se": "Whether the features of this resolution are weighted channel by channel.",
    "blocks": "Whether this resolution is computed by attention or by convolutions.",
    "epa": "Whether this resolution is computed by attention or by convolutions.",
    "loss": "What training minimises: the measure of how wrong a prediction is.",
    "distance penalty": "Whether errors near a structure's border count more in training.",
    "low resolution": "A coarser copy of the images, on which a first network sees more of the body at once.",
    "cascade": "A second network that refines what the first one found at low resolution.",
}


def meaning(about: str) -> str:
    """What a decision about this subject decides; "" for a subject that a planner of another package brings.

    >>> meaning("normalisation of CT").startswith("How the intensities")
    True
    """
    known = next((text for subject, text in MEANINGS.items() if about == subject), None)
    return known or next((text for subject, text in MEANINGS.items() if about.startswith(f"{subject} ")), "")


def decision_cards(decisions: Sequence[Decision]) -> list[Card]:
    """One card per decision: its value, what it means and the planner's reason."""
    return [Card(d.about, d.value, meaning(d.about), d.why) for d in decisions]
