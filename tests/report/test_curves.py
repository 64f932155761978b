"""Learning curves: nothing is cut or covered, and a fold without validation cases has no curves of them."""

import numpy as np
import pytest
from matplotlib.image import imread

from tests.helpers.figures import require_no_cut_text
from unetrpp.report.curves import draw_curves, draw_folds


def epochs(classes, count=4, *, validated=True):
    def entry(epoch):
        dice = [epoch / 10] * classes if validated else []
        mean = epoch / 10 if validated else None
        loss = 2 / epoch if validated else None
        return {"epoch": epoch, "train_loss": 1 / epoch, "validation_loss": loss, "dice": dice, "mean_dice": mean}

    return [entry(epoch) for epoch in range(1, count + 1)]


@pytest.mark.parametrize("folds", [1, 5, 10])
def test_folds_have_a_colour_each_and_nothing_is_cut(folds):
    figure = draw_folds({str(fold): epochs(2) for fold in range(folds)})
    require_no_cut_text(figure)
    losses, dice = figure.axes
    assert len({line.get_color() for line in dice.lines}) == len(dice.lines) == folds
    assert len(losses.lines) == 2 * folds
    np.testing.assert_allclose(np.asarray(dice.lines[0].get_ydata(), float), np.array([0.1, 0.2, 0.3, 0.4]))


def test_the_fold_all_has_no_validation():
    figure = draw_folds({"all": epochs(2, validated=False)})
    require_no_cut_text(figure)
    losses, dice = figure.axes
    assert len(losses.lines) == 1
    assert not dice.lines
    assert [text.get_text() for text in dice.texts] == ["no validation cases"]


@pytest.mark.parametrize("classes", [1, 12, 13, 120])
def test_one_fold_is_drawn_for_any_number_of_classes(tmp_path, classes):
    for validated in (True, False):
        names = [f"left vertebra number {i} of a long name" for i in range(classes)]
        draw_curves(epochs(classes, validated=validated), names, tmp_path / "progress.png")
        height, width, _ = imread(tmp_path / "progress.png").shape
        assert width > 1000
        assert height > 350
