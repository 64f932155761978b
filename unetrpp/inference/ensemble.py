"""The mean over models, such as 3d_fullres with 2d or UNETR++ with a U-Net, in step and slab by slab."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from unetrpp.core.errors import UserError
from unetrpp.inference.export import Exported, averaged_slabs, collect, with_doubts
from unetrpp.inference.predictor import Image, Predictor, Segmentation, as_volume
from unetrpp.io.images import Volume
from unetrpp.preprocessing.case import CaseProperties, PreprocessedCase

Prepared = tuple[PreprocessedCase, ...]  # one a member


class Ensemble:
    """Averages the probabilities of its members on the original grid; one member alone is simply asked.

    Raises:
        UserError: the members do not segment the same labels from the same channels in the same axis order.
    """

    def __init__(self, members: Sequence[Predictor]):
        self.members = tuple(members)
        self.first = self.members[0]
        for member in self.members[1:]:
            for about in ("labels", "channel_names", "file_ending"):
                if getattr(member.model.plans, about) != getattr(self.first.model.plans, about):
                    raise UserError(
                        f"{member.model.path} and {self.first.model.path} differ in their {about}; ensemble models of one dataset"
                    )
            if (
                member.model.configuration.preprocessing.transpose
                != self.first.model.configuration.preprocessing.transpose
            ):
                raise UserError(
                    f"{member.model.path} and {self.first.model.path} differ in their axis order; plan both from one fingerprint"
                )

    def __call__(
        self, image: Image, case: str = "image", *, probabilities: bool = False, uncertainty: bool = False
    ) -> Segmentation:
        prepared = self.prepare(as_volume(image), case)
        exported = self.export(prepared, probabilities=probabilities, uncertainty=uncertainty)
        return self.to_input_grid(exported, prepared[0].properties)

    def prepare(self, volume: Volume, case: str) -> Prepared:
        """Every member's preprocessing of the image."""
        return tuple(member.prepare(volume, case) for member in self.members)

    def export(self, prepared: Prepared, *, probabilities: bool = False, uncertainty: bool = False) -> Exported:
        """``uncertainty`` of several models is the entropy of their mean and the share of models against it."""
        if len(self.members) == 1:
            return self.first.export(prepared[0], probabilities=probabilities, uncertainty=uncertainty)
        scheme = self.first.model.plans.labels
        streams = [
            averaged_slabs(member.logits(case), case.properties, member.model.configuration.preprocessing)
            for member, case in zip(self.members, prepared, strict=True)
        ]

        def means() -> Iterator[Tensor]:
            for models in in_step(streams):
                mean = models.mean(dim=0)
                yield with_doubts(models, mean, scheme) if uncertainty else mean

        return collect(means(), prepared[0].properties.cropped_shape, scheme, probabilities, uncertainty)

    def to_input_grid(self, exported: Exported, properties: CaseProperties) -> Segmentation:
        return self.first.to_input_grid(exported, properties)


def in_step(streams: Sequence[Iterator[Tensor]]) -> Iterator[Tensor]:
    """Slabs (K, m, Y, X) of several streams, cut to equal thickness and stacked: (M, K, m, Y, X)."""
    held: list[Tensor | None] = [None] * len(streams)
    while True:
        held = [next(stream, None) if slab is None else slab for stream, slab in zip(streams, held, strict=True)]
        slabs = [slab for slab in held if slab is not None]
        if len(slabs) < len(streams):
            return
        depth = min(slab.shape[1] for slab in slabs)
        yield torch.stack([slab[:, :depth].to(slabs[0].device) for slab in slabs])
        held = [slab[:, depth:] if slab.shape[1] > depth else None for slab in slabs]
