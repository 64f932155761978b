"""The table of find-best with one and with many candidates, and its reasons, which name classes."""

import pytest

from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.ranking import reasons, selection_table
from unetrpp.inference.postprocessing import NOTHING, PostProcessing
from unetrpp.inference.selection import Candidate, Selection


def selection(count):
    candidates = tuple(
        Candidate(members=(f"model_{i:02}",), cases=9, foreground_mean={"Dice": 0.9 - i / 100}, mean={})
        for i in range(count)
    )
    return Selection(
        made_from="",
        dataset="balls",
        members=candidates[0].members,
        mirroring=True,
        postprocessing=NOTHING,
        why=("model_00 is the best",),
        candidates=candidates,
        left_out={},
        dice_before_postprocessing={"1": 0.9},
        dice_after_postprocessing={"1": 0.9},
    )


def test_one_candidate():
    assert selection_table(selection(1)).splitlines() == [
        "candidate  cases  mean Dice",
        "model_00       9     0.9000",
        "",
        "model_00 is the best",
    ]


@pytest.mark.parametrize(("count", "rest"), [(10, None), (11, "1 more down to 0.8000"), (20, "10 more down to 0.7100")])
def test_of_many_candidates_the_best_ten_are_shown(count, rest):
    lines = selection_table(selection(count)).splitlines()
    assert [line.split()[0] for line in lines[1:11]] == [f"model_{i:02}" for i in range(10)]
    assert lines[11:] == [
        *([] if rest is None else [f"and {rest}, which inference.json lists"]),
        "",
        "model_00 is the best",
    ]


LABELS = LabelScheme(names=("background", "liver", "cyst", "tumour"), values=(0, 10, 20, 7))
ONE = Candidate(members=("model",), cases=9, foreground_mean={"Dice": 0.5}, mean={})


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (((10,),), "only the largest component is kept of liver: "),
        (((10, 20, 7), (7,)), "only the largest component is kept of all 3 classes together, then tumour: "),
        (((20, 7),), "only the largest component is kept of cyst + tumour together: "),
        ((), "no post-processing: "),
    ],
)
def test_groups_have_the_names_of_their_classes(groups, said):
    best, postprocessing = reasons([ONE], PostProcessing(largest_component=groups), LABELS)
    assert best == "model: mean Dice 0.5000 over 9 cases"
    assert postprocessing.startswith(said)
