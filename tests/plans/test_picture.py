"""The picture of plans: sizes of patches, memory and the table against the plans' own numbers."""

import msgspec
import pytest

from tests.helpers.figures import require_no_cut_text
from tests.helpers.tiny import LABELS, configuration
from unetrpp.networks.design import unet_architecture
from unetrpp.plans.plans import Plans


def plans(ending=".nii.gz", **configurations):
    return Plans(
        dataset="balls",
        name="unet",
        planner="unet",
        channel_names=("MRI",),
        labels=LABELS,
        file_ending=ending,
        configurations=configurations,
        decisions=(),
    )


def volumes(spacing, memory):
    planned = configuration()
    preprocessing = msgspec.structs.replace(planned.preprocessing, spacing_mm=spacing, transpose=(1, 0, 2))
    return msgspec.structs.replace(planned, preprocessing=preprocessing, training_memory_bytes=memory)


def flat():
    network = unet_architecture(1, 2, (32, 48), [(2, 2)], width=0.25)
    planned = volumes((None, 1.5, 1.0), 2**29)
    return msgspec.structs.replace(planned, architecture=network)


def frames(axes):
    """Width and height of every box by its name."""
    return {box.get_label(): (box.get_width(), box.get_height()) for box in axes.patches if box.get_label()[0] != "_"}


def test_patches_are_drawn_in_mm_and_memory_in_gb():
    figure = plans(**{"3d_fullres": volumes((3.0, 0.5, 0.8), 3 * 2**30), "2d": flat()}).show()
    in_plane, across, memory, *_ = figure.axes
    assert frames(in_plane) == {
        "patch of 3d_fullres": (pytest.approx(16 * 0.8), pytest.approx(16 * 0.5)),
        "patch of 2d": (48.0, 48.0),
    }
    assert (in_plane.get_xlabel(), in_plane.get_ylabel()) == ("x", "z")  # transposed by (1, 0, 2)
    assert frames(across) == {"patch of 3d_fullres": (pytest.approx(16 * 0.8), pytest.approx(8 * 3.0))}
    assert [bar.get_width() for bar in memory.patches] == [3.0, 0.5]
    require_no_cut_text(figure)


def test_the_table_has_a_line_for_every_configuration():
    figure = plans(**{"3d_fullres": volumes((3.0, 0.5, 0.8), 2**30), "2d": flat()}).show()
    (table,) = [text.get_text() for part in figure.subfigs for text in part.texts]
    header, first, second = table.splitlines()
    assert header.split()[:3] == ["configuration", "voxel", "(mm)"]
    levels = configuration().architecture.levels
    assert first.split() == [
        *("3d_fullres", *["3", "x", "0.5", "x", "0.8"], *["8", "x", "16", "x", "16"], "2", "unet,", "2", "levels"),
        *", ".join(f"{level.channels}" for level in levels).split(),
    ]
    assert second.split()[:7] == ["2d", "1.5", "x", "1", "32", "x", "48"]


def test_photographs_are_measured_in_pixels():
    figure = plans(".png", **{"2d": flat()}).show()
    assert [axes.get_title() for axes in figure.axes] == ["patch (pixels)", "memory of a training step (GB)"]
    assert figure._repr_png_().startswith(b"\x89PNG")
