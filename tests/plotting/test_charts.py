"""Charts: their size by the number of rows, and that no name is cut, crosses the axis or overlaps another."""

import numpy as np
import pytest

from tests.helpers.figures import require_no_cut_text
from unetrpp.plotting.charts import Distribution, draw_distributions, draw_heat, shortened


def rows(count, values=9):
    rng = np.random.default_rng(0)
    name = "left anterior part of the superior something cortex number"
    return [Distribution(f"{name} {i}", rng.uniform(0, 1, values).tolist(), [0, 1, 2] * 3) for i in range(count)]


@pytest.mark.parametrize("count", [1, 4, 37, 120])
def test_names_fit(count):
    figure = draw_distributions(rows(count), label="Dice", limits=(0, 1))
    require_no_cut_text(figure)
    require_no_cut_text(draw_heat(np.full((count, 7), 0.5), [row.name for row in rows(count)], label="Dice", below="x"))


def test_the_height_follows_the_number_of_classes_and_many_fill_columns():
    one, four, many, most = (draw_distributions(rows(n), label="Dice") for n in (1, 4, 37, 120))
    heights = [figure.get_figheight() for figure in (one, four, many)]
    assert heights == sorted(heights)
    assert one.get_figheight() > 1
    assert many.get_figheight() > 8  # inches for 37 rows
    assert len(most.axes) == 3
    assert most.get_figheight() < 12


def test_every_value_is_a_dot_inside_the_axis():
    figure = draw_distributions(
        [Distribution("a", [0.0, 0.25, 1.0]), Distribution("none", [])], label="Dice", limits=(0, 1)
    )
    (axes,) = figure.axes
    (dots,) = axes.collections
    np.testing.assert_array_equal(np.asarray(dots.get_offsets())[:, 0], [0.0, 0.25, 1.0])
    low, high = axes.get_xlim()
    assert low < 0
    assert high > 1


def test_shortened_names_keep_both_ends():
    assert shortened("hippocampus", 11) == "hippocampus"
    assert len(shortened("a" * 50, 20)) == 20
    assert {shortened(f"cerebellar lobule number {i} {side}", 20) for i in "12" for side in ("left", "right")} > {
        "cerebellar…er 1 left"
    }
