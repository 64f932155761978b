"""Post-processing of a segmentation: keep the largest connected component where cross-validation says it helps."""

import numpy as np

from unetrpp.core.files import Record


class PostProcessing(Record, frozen=True, kw_only=True):
    """``largest_component`` lists groups of the user's label values; each group is one mask, as a region is."""

    largest_component: tuple[tuple[int, ...], ...] = ()

    def apply(self, array: np.ndarray) -> np.ndarray:
        """A segmentation (Z, Y, X) with the smaller components of every group set to background, group by group."""
        for values in self.largest_component:
            array = keep_largest_component(array, values)
        return array


NOTHING = PostProcessing()


def keep_largest_component(array: np.ndarray, values: tuple[int, ...]) -> np.ndarray:
    """Set all but the largest component (faces, edges and corners connect) of ``values`` to 0; of equal ones all stay."""
    from acvl_utils.morphology.morphology_helper import remove_all_but_largest_component

    mask = np.isin(array, values)
    if not mask.any():
        return array
    # Axes of length one (2D images) would be seen as planes of a volume: the same components either way.
    kept = remove_all_but_largest_component(mask)
    return np.where(mask & ~kept.astype(bool), 0, array).astype(array.dtype)
