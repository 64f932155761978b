"""Normalisation by the channel's name."""

import msgspec
import pytest

from tests.helpers.fingerprints import STATISTICS, case_fingerprint, fingerprint
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


@pytest.mark.parametrize(("kept", "body", "masked"), [(0.4, 0.55, True), (0.4, 0.9, False), (0.8, 0.55, False)])
def test_air_alone_makes_no_mask(kept, body, masked):
    """However much air surrounds a body, the mask is for images whose crop holds background as well."""
    cases = [msgspec.structs.replace(case_fingerprint(), body_share=body + shift) for shift in (-0.05, 0, 0.05)]
    (plan,), (decision,) = plan_normalization(("T1",), fingerprint(cases, kept=kept))
    assert plan.masked is masked
    limits = (
        f"cropping kept {kept:.0%} of the median case (limit 75%), of which {body:.0%} is not background (limit 67%)"
    )
    assert decision.why.endswith(limits) is masked


def test_the_reason_of_ct_has_the_foregrounds_statistics():
    _, (decision,) = plan_normalization(("CT",), fingerprint([]))
    s = STATISTICS
    assert decision.value == f"ct, {s.percentile_00_5:g} to {s.percentile_99_5:g} HU"
    assert decision.why.endswith(f"({s.mean:g} and {s.std:g} HU)")
