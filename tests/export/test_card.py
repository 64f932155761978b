"""Sizes on the model card: in mm for scans, in pixels for photographs."""

import pytest

from tests.helpers.fingerprints import case_fingerprint, fingerprint
from tests.helpers.model import make_model, make_model_2d
from unetrpp.core.files import write_json
from unetrpp.export.card import model_card
from unetrpp.model.folder import ModelFolder


def lines(path, *cases):
    write_json(path / "fingerprint.json", fingerprint(list(cases)))
    card = model_card(ModelFolder.open(path), ["0"], "final", use="")
    return [line for line in card.splitlines() if line.startswith(("- Network", "- Trained", "- Folds"))]


def test_a_scan_has_a_spacing(tmp_path):
    assert lines(make_model(tmp_path), case_fingerprint()) == [
        "- Network: unet, patch 8 x 16 x 16 voxels of 1 x 1 x 1 mm (plan order)",
        "- Folds: 0, checkpoint final",
        "- Trained on 1 case of median spacing 1 x 1 x 1 mm (z, y, x)",
    ]


@pytest.mark.parametrize(
    ("shape", "network", "trained"),
    [
        ((1, 50, 60), "pixels", ""),
        ((20, 50, 60), "pixels of 1 x 1 mm (plan order)", " of median spacing 1 x 1 x 1 mm (z, y, x)"),
    ],
)
def test_a_photograph_has_pixels_and_slices_have_a_spacing_of_two_axes(tmp_path, shape, network, trained):
    assert lines(make_model_2d(tmp_path), case_fingerprint(shape=shape)) == [
        f"- Network: unet, patch 16 x 16 {network}",
        "- Folds: 0, checkpoint final",
        f"- Trained on 1 case{trained}",
    ]
