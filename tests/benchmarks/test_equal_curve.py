"""The comparison of runs in benchmarks/equal_curve.py."""

import pytest
from scipy.stats import ttest_ind

from benchmarks.equal_curve import LIMIT, compared


@pytest.mark.parametrize(
    ("ours", "within"),
    [
        ([0.81, 0.83, 0.84], True),
        ([0.83, 0.85, 0.86], False),  # more than the limit and more than twice the standard error
        ([0.73, 0.89, 0.94], True),  # more than the limit, but less than twice the standard error
    ],
)
def test_a_difference_is_judged_by_the_limit_or_welchs_standard_error(ours, within):
    theirs = [0.80, 0.81, 0.84]
    difference, error, judged = compared(theirs, ours)
    assert difference / error == pytest.approx(ttest_ind(ours, theirs, equal_var=False).statistic)
    assert judged is within
    assert (abs(difference) <= LIMIT) == (ours[0] == 0.81)
