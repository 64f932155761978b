"""Ensembles: the mean probabilities of several models, such as 3d_fullres with 2d or UNETR++ with a U-Net."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from unetrpp.core.errors import UserError
from unetrpp.inference.export import Exported, append_uncertainty, averaged_slabs, collect
from unetrpp.inference.predictor import Image, Predictor, as_volume
from unetrpp.inference.segmentation import Segmentation
from unetrpp.io.images import Volume
from unetrpp.preprocessing.case import PreprocessedCase
from unetrpp.preprocessing.grid import CaseProperties

Prepared = tuple[PreprocessedCase, ...]  # one per member


class Ensemble:
    """The mean probabilities of its members; with a single member the same as that predictor.

    >>> Ensemble([Predictor("unet__3d_fullres"), Predictor("unetrpp__3d_fullres")])("scan.nii.gz")  # doctest: +SKIP

    Attributes:
        members: the predictors.
        first: the first of them.

    Raises:
        UserError: there are no members, or they differ in labels, channels, file ending or axis order.
    """

    def __init__(self, members: Sequence[Predictor]):
        if not members:
            raise UserError("an ensemble needs at least one model")
        self.members = tuple(members)
        self.first = self.members[0]
        for member in self.members[1:]:
            _require_same_task(self.first, member)

    def __call__(
        self, image: Image, case: str = "image", *, probabilities: bool = False, uncertainty: bool = False
    ) -> Segmentation:
        """Segment one image, as :meth:`Predictor.__call__` does.

        ``uncertainty`` of several models is the entropy of their mean and the share of models that decide otherwise.

        Raises:
            UserError: the image cannot be read, has another number of channels, or holds NaN or infinite values.
        """
        prepared = self.prepare(as_volume(image), case)
        exported = self.export(prepared, probabilities=probabilities, uncertainty=uncertainty)
        return self.to_input_grid(exported, prepared[0].properties)

    def prepare(self, volume: Volume, case: str) -> Prepared:
        """The image as each member's network takes it."""
        return tuple(member.prepare(volume, case) for member in self.members)

    def export(self, prepared: Prepared, *, probabilities: bool = False, uncertainty: bool = False) -> Exported:
        """Run all members and decide on the cropped grid, slab by slab."""
        if len(self.members) == 1:
            return self.first.export(prepared[0], probabilities=probabilities, uncertainty=uncertainty)
        scheme = self.first.model.plans.labels
        streams = [
            averaged_slabs(member.logits(case), member.grid(case.properties))
            for member, case in zip(self.members, prepared, strict=True)
        ]

        def means() -> Iterator[Tensor]:
            for models in in_step(streams):
                mean = models.mean(dim=0)
                yield append_uncertainty(mean, models, scheme) if uncertainty else mean

        grid = self.first.grid(prepared[0].properties)
        return collect(means(), grid, probabilities=probabilities, uncertainty=uncertainty)

    def to_input_grid(self, exported: Exported, properties: CaseProperties) -> Segmentation:
        """The result on the input's grid."""
        return self.first.to_input_grid(exported, properties)


def _require_same_task(first: Predictor, other: Predictor) -> None:
    between = f"{other.model.path} and {first.model.path} differ in their"
    for about in ("labels", "channel_names", "file_ending"):
        if getattr(other.model.plans, about) != getattr(first.model.plans, about):
            raise UserError(f"{between} {about}; ensemble models of one dataset")
    orders = [predictor.model.configuration.preprocessing.transpose for predictor in (first, other)]
    if orders[0] != orders[1]:
        raise UserError(f"{between} axis order; plan both from one fingerprint")


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
