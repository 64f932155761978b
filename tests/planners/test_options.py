"""Options of planning: what is recorded, and what is refused."""

import pytest

from unetrpp.core.errors import UserError
from unetrpp.planners.options import Options


def test_what_differs_from_the_default_is_recorded():
    assert Options(width=1.0, mirror="auto").as_text() == {}
    assert Options(width=0.5, patch=(8, 8, 8), place=("gate@1=on",)).as_text() == {
        "width": "0.5",
        "patch": "(8, 8, 8)",
        "place": "('gate@1=on',)",
    }


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"batch_size": 0}, "batch_size must be above 0, but is 0"),
        ({"spacing": (1.0, -1.0, 1.0)}, "spacing must be above 0"),
        ({"attention": "papre"}, "attention is 'papre'; choose among auto, pooled, paper, none, focal, all"),
        ({"loss": "focal"}, "loss is 'focal'; choose among dice_ce, unified_focal, unified_focal_distance, auto"),
        ({"store": "float64"}, "choose among float32, float16"),
    ],
)
def test_impossible_values_are_refused(values, words):
    with pytest.raises(UserError, match=words):
        Options(**values)
