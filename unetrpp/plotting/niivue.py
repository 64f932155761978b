"""An image with its labels in a notebook: three planes, and a body that turns. The drawing is NiiVue's, in the browser."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume
from unetrpp.io.nifti import nifti_bytes
from unetrpp.plotting.colors import color
from unetrpp.plotting.overlays import OPACITY, brightness_limits
from unetrpp.plotting.slices import all_names, require_same_grid

if TYPE_CHECKING:
    from ipyniivue import NiiVue

HEIGHT = 400  # pixels of the view


def labels_in_3d(labels: np.ndarray, geometry: Geometry, image: Volume | None, names: Mapping[int, str]) -> "NiiVue":
    """
    Args:
        labels: (Z, Y, X) on the grid of ``geometry``.
        image: what the labels are painted on: its first channel.
        names: label value -> name, in the order of the colours; a value that has none is called "label 3".

    Raises:
        UserError: ipyniivue is not installed, ``image`` is on another grid, or it is a single slice.
    """
    try:
        import ipyniivue
    except ModuleNotFoundError:
        raise UserError('show_3d needs the package ipyniivue; pip install "unetrpp[niivue]"') from None
    if len(labels) == 1:
        raise UserError("a single slice has no third dimension; show() draws it")
    volumes = []
    if image is not None:
        require_same_grid(geometry, image)
        low, high = map(float, brightness_limits(image.array[0]))
        content = nifti_bytes(image.array[0], geometry)
        volumes.append(ipyniivue.Volume(name="image.nii", data=content, cal_min=low, cal_max=high))
    painted = ipyniivue.Volume(name="labels.nii", data=nifti_bytes(labels, geometry), opacity=OPACITY)
    painted.set_colormap_label(color_table(all_names(labels, names)))
    view = ipyniivue.NiiVue(
        height=HEIGHT,
        is_radiological_convention=True,  # the patient's right at the left, as show() draws it
        multiplanar_show_render=ipyniivue.ShowRender.ALWAYS,
    )
    view.load_volumes([*volumes, painted])
    return view


def color_table(names: Mapping[int, str]) -> dict[str, list[int] | list[str]]:
    """NiiVue's table of colours: value I has the colour R, G, B (0 to 255), shown as far as A says, and a label.

    >>> color_table({2: "liver"})
    {'R': [0, 255], 'G': [0, 59], 'B': [0, 48], 'A': [0, 255], 'I': [0, 2], 'labels': ['', 'liver']}
    """
    colors = np.array([(0, 0, 0), *(np.array(color(i)) * 255 for i in range(len(names)))]).round().astype(int)
    red, green, blue = colors.T.tolist()
    table: dict[str, list[int] | list[str]] = {"R": red, "G": green, "B": blue}
    return {**table, "A": [0, *[255] * len(names)], "I": [0, *names], "labels": ["", *names.values()]}
