"""The gamma of gates from the bits of levels."""

import pytest

from unetrpp.planners.rules.gate_gamma import gate_gammas


def test_one_gate_and_its_reason():
    gammas, reasons = gate_gammas([2.6, 0.9], ["4", "8"])
    assert gammas == [pytest.approx(1.7), None]
    assert reasons[0] == "2.60 bits to find the foreground, 0.90 at the bottleneck: 1.70 more (a gate if at least 0.5)"


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        ([5.0, 3.0, 2.0, 2.0], [2.0, 1.0, None, None]),  # gain counts from the last gate
        ([1.2, 0.8, 0.4, 0.0], [None, 0.8, None, None]),  # 0.4, then 0.8 since the bottleneck, then 0.4
        ([9.0, 5.0, 1.0, 0.0], [2.0, 2.0, 1.0, None]),  # at most 2
        ([0.4, 0.3, 0.2, 0.1], [None, None, None, None]),
        ([0.5, 0.0, 0.0, 0.0], [0.5, None, None, None]),  # at least half a bit, and gamma is never below it
    ],
)
def test_gains_count_from_the_last_gate(bits, expected):
    assert gate_gammas(bits, ["1", "2", "4", "8"])[0] == pytest.approx(expected)
