"""The ablation: arms, finished runs as lines, paired differences, and two arms from raw data to the table."""

import json
import random

import msgspec
import numpy as np
import pytest

from benchmarks import ablation
from benchmarks.ablation_parts import run
from benchmarks.ablation_parts.arms import PARTS, arm_of
from benchmarks.ablation_parts.figure import draw_costs, write_costs
from benchmarks.ablation_parts.results import (
    Record,
    StepCost,
    add_result,
    differences,
    interval,
    paired,
    pooled,
    read_results,
    table,
)
from unetrpp.dataset.synthetic import write_synthetic_dataset
from unetrpp.networks.build import build_network
from unetrpp.networks.design import unetrpp_architecture

RNG = np.random.default_rng(1)
PLANNED = unetrpp_architecture(1, 3, (16, 16, 16), [(2, 2, 2), (2, 2, 2)], width=0.25)


def record(arm="paper", seed=0, dataset="a", dice=(0.5, 0.7), **changes):
    values = {f"c{i}": value for i, value in enumerate(dice)}
    made = Record(
        dataset=dataset,
        arm=arm,
        seed=seed,
        fold=0,
        steps=100,
        batch=2,
        width=0.5,
        seconds=10.0,
        cpu_seconds=12.0,
        parameters=1000,
        modules=0,
        torch="x",
        Dice=values,
        HD95=dict.fromkeys(values, 2.0),
        NSD=dict.fromkeys(values),
    )
    return msgspec.structs.replace(made, **changes)


@pytest.mark.parametrize("part", [part for part in PARTS if part not in ("auto", "learned", "unpruned")])
def test_every_arm_is_a_network_that_can_be_built(part):
    arm = arm_of(part)
    build_network(arm.network(PLANNED))


def test_parts_are_applied_in_their_order_and_unknown_ones_refused():
    arm = arm_of("pooled_voxels+epa_deepest+dropout+lr_1e-3")
    network = arm.network(PLANNED)
    assert [level.attention for level in network.levels] == ["conv", "conv", "epa"]
    assert network.levels[2].cell is not None
    assert network.dropout == 0.1
    assert arm.recipe == {"learning_rate": 1e-3}
    with pytest.raises(SystemExit, match="'none2' is not a part"):
        arm_of("paper+none2")


def test_runs_are_lines_and_an_unfinished_line_is_replaced(tmp_path):
    path = tmp_path / "results" / "trial.jsonl"
    one, two = record(seed=0), record(seed=1, dice=(0.1, None))
    add_result(path, one)
    path.write_bytes(path.read_bytes() + b'{"dataset": "a", "ar')
    assert read_results(path) == [one]
    add_result(path, two)
    assert read_results(path) == [one, two]
    assert [json.loads(line)["seed"] for line in path.read_text().splitlines()] == [0, 1]


def test_differences_are_paired_by_seed_and_case():
    records = [record("paper", s, dice=(0.5 + s / 10, 0.7)) for s in range(3)]
    records += [record("none", s, dice=(0.6 + s / 10, 0.6)) for s in (2, 1)]
    np.testing.assert_allclose(paired(records, "none", "paper", "a"), [[0.1, -0.1], [0.1, -0.1]])
    assert paired(records, "none", "auto", "a").size == 0
    with pytest.raises(ValueError, match="different cases"):
        paired([*records, record("none", 0, dice=(0.5,))], "none", "paper", "a")


def test_datasets_have_equal_weights_and_the_interval_is_that_of_a_plain_bootstrap():
    records = []
    for dataset, cases, gain in (("a", 4, 0.1), ("b", 40, 0.3)):
        for seed in range(3):
            base = RNG.uniform(0.3, 0.6, cases)
            records.append(record("paper", seed, dataset, dice=base))
            records.append(record("none", seed, dataset, dice=base + gain + RNG.normal(0, 0.05, cases)))
    found = pooled(records, "none", "paper")
    assert found is not None
    mean, low, high = found
    assert mean == pytest.approx(0.2, abs=0.03)
    rng, draws = random.Random(7), []
    changes = [paired(records, "none", "paper", d) for d in ("a", "b")]
    for _ in range(2000):
        drawn = []
        for change in changes:
            rows, columns = (rng.choices(range(n), k=n) for n in change.shape)
            drawn.append(np.mean([change[r, c] for r in rows for c in columns]))
        draws.append(np.mean(drawn))
    assert (low, high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.005)
    assert interval(changes) == (low, high)
    text = differences(records, ["paper", "none"], ["paper"])
    assert "better" in text.splitlines()[-1]
    assert "better" not in text.splitlines()[-2]


def test_the_table_says_which_seeds_cannot_be_compared():
    text = table([record("paper", 0), record("none", 1)], ["paper", "none", "auto"], "a")
    lines = [line for line in text.splitlines() if line.strip().startswith(("paper", "none", "auto"))]
    assert [line.split()[0] for line in lines] == ["paper", "none"]
    assert "reference" in lines[0]
    assert "no common seed" in lines[1]


def test_the_table_has_what_a_step_of_this_width_costs():
    wide = record("paper", 0, width=1.0)
    costs = {("a", "paper", 0.5): StepCost(dataset="a", arm="paper", width=0.5, seconds=0.25, megabytes=80)}
    for runs, cells in (([record("paper", 0)], ["0.25", "80"]), ([wide], ["-", "-"])):
        header, paper = table(runs, ["paper"], "a", costs).splitlines()
        assert paper[: header.index(" MB") + 3].split()[-2:] == cells


@pytest.mark.slow
def test_two_arms_from_raw_data_to_the_table(tmp_path, monkeypatch, capsys):
    raw = tmp_path / "toy"
    write_synthetic_dataset(raw, seed=0)
    common = [str(raw), "--out", str(tmp_path / "out"), "--width", "0.25", "--patch", "16", "16", "16", "--seeds", "0"]
    common += ["--arms", "paper", "none", "--iterations", "2", "--threads", "1"]

    def call(*more):
        monkeypatch.setattr("sys.argv", ["ablation.py", *common, *more])
        ablation.main()
        return capsys.readouterr()

    with pytest.raises(SystemExit, match="no measured seconds a step"):
        call("--cpu-seconds", "3")
    monkeypatch.setattr(run, "TIMED_STEPS", 1)
    assert "MB a step" in call("--time").out
    said = call("--steps", "2")
    assert said.err.count("done") == 2
    results = read_results(tmp_path / "out/results.jsonl")
    assert [(r.arm, r.steps) for r in results] == [("paper", 2), ("none", 2)]
    assert all(r.cpu_seconds > 0 and len(r.Dice) == 4 for r in results)
    again = call("--steps", "2")  # nothing is run twice
    assert len(read_results(tmp_path / "out/results.jsonl")) == 2
    assert [line.split()[0] for line in again.out.splitlines()[2:]][-2:] == ["paper", "none"]


def test_tables_of_several_files_refuse_two_results_of_one_run(tmp_path, monkeypatch, capsys):
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    for path, dice in ((one, (0.5, 0.7)), (two, (0.6, 0.7))):
        add_result(path, record("none", dice=(0.4, 0.6)))
        add_result(path, record("paper", dice=dice))

    def call(*arms):
        asked = ["--width", "0.5", "--steps", "100", "--references", "none", "--arms", *arms]
        monkeypatch.setattr("sys.argv", ["ablation.py", "--results", str(one), str(two), *asked])
        ablation.main()
        return capsys.readouterr().out

    assert "paper" not in call("none")
    with pytest.raises(SystemExit, match="two results of paper on a, seed 0"):
        call("none", "paper")


def test_the_figure_has_a_point_for_each_arm_and_a_mark_for_each_seed(tmp_path):
    records = [
        record("paper", 0),
        record("paper", 1, dice=(0.6, 0.8)),
        record("none", 0),
        record("untimed", 0),
        record("none", 0, dataset="b"),
    ]
    timed = [("a", "paper", 0.5), ("a", "none", 0.25), ("b", "none", 1.0)]
    costs = {
        (d, arm, 0.5): StepCost(dataset=d, arm=arm, width=0.5, seconds=seconds, megabytes=80)
        for d, arm, seconds in timed
    }
    axes = draw_costs(records, ["paper", "none", "untimed", "not run"], costs, "a").axes[0]
    seeds, mean, *_ = axes.lines
    spent = 0.5 * records[0].steps
    assert np.asarray(seeds.get_xydata()).tolist() == [[spent, 0.6], [spent, pytest.approx(0.7)]]
    assert np.asarray(mean.get_xydata()).tolist() == [[spent, pytest.approx(0.65)]]
    assert [text.get_text() for text in axes.texts] == [" paper", " none"]
    written = write_costs(records, ["paper", "none"], costs, tmp_path / "new")
    assert [path.name for path in written] == ["trial_a.png", "trial_b.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)
