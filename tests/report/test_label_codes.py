"""Codes of labels: classes in their order, regions with values of their own, the ignore label, and unknown values."""

import numpy as np
import pytest

from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.report.label_codes import IGNORED, LabelCodes


def test_values_become_codes_in_the_order_of_the_labels():
    codes = LabelCodes.of(LabelScheme(names=("background", "a", "b"), values=(0, 40, 7), ignore_value=99))
    assert codes.names == ("a", "b")
    np.testing.assert_array_equal(codes.encode(np.array([0, 7, 40, 99]), "label"), [0, 2, 1, IGNORED])
    with pytest.raises(UserError, match="the reference holds the value 3, which is not"):
        codes.encode(np.array([0, 3]), "reference")


def test_a_region_with_a_value_of_its_own_has_a_code():
    regions = (Region(name="whole", members=(1, 2), value=10), Region(name="core", members=(2,), value=2))
    codes = LabelCodes.of(LabelScheme(names=("background", "edema", "core"), values=(0, 1, 2), regions=regions))
    assert codes.names == ("edema", "core", "whole")
    np.testing.assert_array_equal(codes.encode(np.array([0, 1, 2, 10]), "prediction"), [0, 1, 2, 3])


def test_more_classes_than_a_byte_holds_are_refused():
    many = LabelScheme(names=tuple(map(str, range(300))), values=tuple(range(300)))
    with pytest.raises(UserError, match="at most 254 classes"):
        LabelCodes.of(many).encode(np.zeros(3, int), "prediction")
