"""Class shares of a fingerprint as first logits."""

import msgspec
import numpy as np
import pytest

from tests.helpers.fingerprints import case_fingerprint, class_statistics, fingerprint
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.planners.rules.initial_logits import LEAST, plan_initial_logits

LABELS = LabelScheme(names=("background", "organ", "lesion"), values=(0, 1, 2))


def case(organ, lesion=None):
    """A case of 10 x 10 x 10 voxels."""
    voxels = {"organ": organ} | ({} if lesion is None else {"lesion": lesion})
    classes = {name: msgspec.structs.replace(class_statistics(), voxels=n) for name, n in voxels.items()}
    return case_fingerprint(shape=(10, 10, 10), classes=classes)


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


def test_the_softmax_is_the_mean_share_of_each_class():
    first = plan_initial_logits(fingerprint([case(100, 60), case(300)]), LABELS)
    assert softmax(first.logits) == pytest.approx([0.77, 0.2, 0.03], abs=1e-4)
    assert first.decision.value == "background 0.77, organ 0.2, lesion 0.03"


def test_a_very_rare_class_starts_at_the_least_share():
    first = plan_initial_logits(fingerprint([case(100, 1), case(100, 1)]), LABELS)
    assert softmax(first.logits)[2] == pytest.approx(LEAST, rel=0.01)


def test_the_sigmoid_of_a_region_is_the_share_of_its_members():
    regions = (Region(name="whole", members=(1, 2), value=1), Region(name="lesion", members=(2,), value=2))
    labels = msgspec.structs.replace(LABELS, regions=regions)
    first = plan_initial_logits(fingerprint([case(100, 60), case(300, 40)]), labels)
    assert 1 / (1 + np.exp(-np.array(first.logits))) == pytest.approx([0.25, 0.05], abs=1e-4)


def test_many_rare_classes_leave_the_background_its_share():
    """117 classes of the least share would be more than the whole image; together they start at a tenth of it."""
    names = [f"organ_{i}" for i in range(117)]
    classes = {name: msgspec.structs.replace(class_statistics(), voxels=2 * (i < 60)) for i, name in enumerate(names)}
    labels = LabelScheme(names=("background", *names), values=tuple(range(118)))
    first = plan_initial_logits(fingerprint([case_fingerprint(shape=(10, 10, 10), classes=classes)]), labels)
    background, *others = softmax(first.logits)
    assert others == pytest.approx([0.002] * 60 + [0.1 / 117] * 57, rel=1e-3)
    assert background == pytest.approx(1 - 0.12 - 57 * 0.1 / 117, rel=1e-3)
    assert "57 classes are rarer than 0.00085, the floor" in first.decision.why
