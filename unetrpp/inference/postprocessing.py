"""Post-processing of a segmentation: keep the largest connected component of the labels where that helps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json


class PostProcessing(Record, frozen=True, kw_only=True):
    """``largest_component`` lists groups of the user's label values; the values of a group form one mask, like a region."""

    largest_component: tuple[tuple[int, ...], ...] = ()

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Set all but the largest component of every group to background in a segmentation (Z, Y, X)."""
        for values in self.largest_component:
            array = keep_largest_component(array, values)
        return array


NOTHING = PostProcessing()
FILE = "postprocessing.json"  # in the model folder of an imported model that came with one


def postprocessing_of(models: Sequence[Path]) -> PostProcessing:
    """What the one model of ``models`` came with.

    Raises:
        UserError: there are several models, or it has none.
    """
    if len(models) != 1:
        raise UserError(f"post-processing is that of one model, but {len(models)} are averaged; leave it out")
    path = models[0] / FILE
    return read_json(path, PostProcessing, hint="only models imported from nnU-Net with one have it; leave it out")


def keep_largest_component(array: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    """Set all but the largest component of ``values`` to 0. Voxels connect by faces, edges and corners; equal ones all stay."""
    from acvl_utils.morphology.morphology_helper import remove_all_but_largest_component

    mask = np.isin(array, values)
    if not mask.any():
        return array
    kept = remove_all_but_largest_component(mask)
    return np.where(mask & ~kept.astype(bool), 0, array).astype(array.dtype)
