"""The four published variants of UNETR++ as data. docs/networks.md lists how the released copies differ."""

from typing import Literal

from unetrpp.core.errors import UserError
from unetrpp.plans.architecture import Architecture, Level

DIMS = (32, 64, 128, 256)


def _published(
    *,
    channels: int,
    classes: int,
    patch: tuple[int, int, int],
    stem: tuple[int, int, int],
    projection: Literal["shared", "separate", "parameter"],
    fusion: Literal["concat", "sum"] = "concat",
    residual_convs: Literal[1, 2] = 1,
    stem_groups: int = 1,
    attention_dropout: float = 0.1,
) -> Architecture:
    kernel = (3, 3, 3)
    full = Level(stride=(1, 1, 1), kernel=kernel, channels=16, encoder_blocks=1, decoder_blocks=1)
    stages = [
        Level(
            stride=stem if i == 0 else (2, 2, 2),
            kernel=kernel,
            channels=width,
            encoder_blocks=3,
            decoder_blocks=0 if i == 3 else 3,
            attention="epa",
            encoder_projection=32 if i == 3 else 64,
        )
        for i, width in enumerate(DIMS)
    ]
    return Architecture(
        network="unetrpp",
        in_channels=channels,
        out_channels=classes,
        patch=patch,
        levels=(full, *stages),
        supervised_levels=3,
        projection=projection,
        fusion=fusion,
        residual_convs=residual_convs,
        spatial_layout="released",
        stem_groups=stem_groups,
        attention_dropout=attention_dropout,
    )


PRESETS = {
    "synapse": _published(
        channels=1, classes=14, patch=(64, 128, 128), stem=(2, 4, 4), projection="shared", attention_dropout=0.15
    ),
    "acdc": _published(
        channels=1, classes=4, patch=(16, 160, 160), stem=(1, 4, 4), projection="separate", residual_convs=2
    ),
    "tumor": _published(
        channels=4,
        classes=4,
        patch=(128, 128, 128),
        stem=(4, 4, 4),
        projection="parameter",
        fusion="sum",
        stem_groups=4,
    ),
    "lung": _published(
        channels=1, classes=2, patch=(32, 192, 192), stem=(1, 4, 4), projection="separate", residual_convs=2
    ),
}


def preset(name: str) -> Architecture:
    """A published variant with the spatial layout as released, which its checkpoints need.

    Raises:
        UserError: there is none of this name.
    """
    if name not in PRESETS:
        raise UserError(f"preset {name!r} is not one of {', '.join(PRESETS)}")
    return PRESETS[name]
