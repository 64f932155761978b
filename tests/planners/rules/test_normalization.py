"""Normalisation by the channel's name."""

import pytest

from tests.helpers.fingerprints import fingerprint
from unetrpp.core.errors import UserError
from unetrpp.planners.rules.normalization import plan_normalization


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("CT", "ct"),
        ("ct", "ct"),
        ("T1", "zscore"),
        ("noNorm", "none"),
        ("rescale_to_0_1", "rescale_0_1"),
        ("PET", "zscore"),
    ],
)
def test_the_name_decides(name, scheme):
    (plan,), (decision,) = plan_normalization((name,), fingerprint([]))
    assert plan.scheme == scheme
    assert decision.why


@pytest.mark.parametrize("name", ["Ct ", "c.t.", "no norm", "z-score", "rescale_0_l"])
def test_a_typo_is_an_error(name):
    with pytest.raises(UserError, match="looks like"):
        plan_normalization((name,), fingerprint([]))


def test_the_mask_depends_on_the_dataset_only():
    (narrow,), _ = plan_normalization(("T1",), fingerprint([], kept=0.7))
    (wide,), _ = plan_normalization(("T1",), fingerprint([], kept=0.8))
    (ct,), _ = plan_normalization(("CT",), fingerprint([], kept=0.1))
    assert (narrow.masked, wide.masked, ct.masked) == (True, False, False)
