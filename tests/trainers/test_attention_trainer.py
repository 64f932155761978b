"""Gammas are learned and judged on cases that were not trained on, and dropped modules are in no checkpoint."""

import json
import signal

import msgspec
import pytest
import torch

from tests.helpers.tiny import configuration, store_balls
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.model import checkpoint
from unetrpp.networks.build import build_network
from unetrpp.networks.design import unet_architecture, unetrpp_architecture
from unetrpp.networks.focal_module import contrast
from unetrpp.networks.gates import AttentionGate, SqueezeExcitation, modules_by_place
from unetrpp.plans.architecture import Architecture
from unetrpp.trainers.attention_trainer import AttentionTrainer
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.inner_split import held_out
from unetrpp.trainers.inputs import FoldData, Machine

CPU = torch.device("cpu")
PLACES = ["gate@0", "se@0", "se@1"]


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    store = store_balls(tmp_path_factory.mktemp("store"), 5)
    return [store.open(case) for case in store.cases()]


def trainer(folder, cases, threads=1, plan=None, **changed) -> AttentionTrainer:
    """Four training cases, one of them held out until the judgement after epoch 1, and a validation case."""
    folder.mkdir(exist_ok=True, parents=True)
    recipe = {"fold": 0, "epochs": 3, "iterations": 4, "momentum": 0.9, "learn_attention": True, "learn_share": 0.3}
    config = TrainingConfig(**(recipe | changed))
    data = FoldData(plan or configuration(), cases[:4], cases[4:])
    return AttentionTrainer(data, config, folder, Machine(threads=threads))


def entries(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def drop(monkeypatch, trainer, *places):
    """Make the coefficients of these places look constant to the judgement."""
    look = trainer.verdict
    monkeypatch.setattr(trainer, "verdict", lambda p, contrast, dice: look(p, 0.0 if p in places else 1.0, dice))
    return trainer


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_gammas_are_learned_then_judged_then_fixed(tmp_path, cases):
    focal = trainer(tmp_path / "f", cases)
    focal.run()
    first, *later = entries(tmp_path / "f")
    assert list(first["gammas"]) == PLACES
    assert all(gamma != 1.0 for gamma in first["gammas"].values())
    assert [v["module"] for v in first["judgement"]] == PLACES
    for verdict in first["judgement"]:
        assert verdict["gamma"] == first["gammas"][verdict["module"]]
        assert verdict["kept"] is (verdict["gamma"] >= 0.05 and verdict["contrast"] >= 0.05)
    kept = {v["module"]: v["gamma"] for v in first["judgement"] if v["kept"]}
    assert kept
    assert all(entry["gammas"] == kept and "judgement" not in entry for entry in later)
    assert (tmp_path / "f" / "gammas.png").stat().st_size > 1000


def test_gammas_have_their_own_learning_rate_and_no_decay(tmp_path, cases):
    focal = trainer(tmp_path / "f", cases, gamma_rate=7.0, weight_decay=0.5, decay_everything=True)
    focal.step(focal.loader.batch(0))
    others, gammas = focal.optimizer.param_groups
    assert [id(p) for p in gammas["params"]] == [id(focal.modules[place].gamma) for place in ("se@0", "se@1", "gate@0")]
    assert (gammas["weight_decay"], others["weight_decay"]) == (0.0, 0.5)
    assert gammas["lr"] == pytest.approx(7 * others["lr"])
    assert len(others["params"]) + 3 == len(list(focal.network.parameters()))


def test_held_out_cases_are_not_drawn_before_the_judgement_and_validation_cases_never(tmp_path, cases, monkeypatch):
    focal = trainer(tmp_path / "f", cases, epochs=8, threads=3)
    (inner,) = focal.judging_loader.cases
    drawn: list[tuple[int, set[str]]] = []
    judged_on: set[str] = set()
    step, read = focal.step, focal.judging_loader.batch

    def watched(samples):
        drawn.append((focal.state.step, {sample.case for sample in samples}))
        return step(samples)

    def judged(iteration):
        samples = read(iteration)
        judged_on.update(sample.case for sample in samples)
        return samples

    monkeypatch.setattr(focal, "step", watched)
    monkeypatch.setattr(focal.judging_loader, "batch", judged)
    focal.run()
    training = {case.case for case in cases[:4]}
    before = set().union(*(names for number, names in drawn if number < 12))
    after = set().union(*(names for number, names in drawn if number >= 12))
    assert before == training - {inner}
    assert after == training
    assert judged_on == {inner}


def test_a_tenth_of_the_patients_is_held_out_whole_and_by_seed():
    cases = [f"case_{i}" for i in range(40)]
    patients = {case: f"patient_{i // 2}" for i, case in enumerate(cases)}
    inner = held_out(cases, patients, seed=0, fold=1)
    assert len(inner) == 4
    assert all((case in inner) == (other in inner) for case, other in zip(cases[::2], cases[1::2], strict=True))
    assert inner == held_out(cases, patients, seed=0, fold=1)
    assert len({frozenset(held_out(cases, {}, seed, 0)) for seed in range(5)}) > 1
    assert len(held_out(["a", "b"], {}, 0, 0)) == 1
    with pytest.raises(UserError, match="a single case"):
        held_out(["a", "b"], {"a": "p", "b": "p"}, 0, 0)


def test_the_pruned_network_is_the_network_with_those_gammas_at_zero(tmp_path, cases, monkeypatch):
    focal = drop(monkeypatch, trainer(tmp_path / "f", cases), "gate@0", "se@1")
    focal.run()
    own = read_json(tmp_path / "f" / "architecture.json", Architecture)
    assert list(own.focal_gammas()) == ["se@0"]
    assert own.focal_gammas()["se@0"] == float(focal.modules["se@0"].gamma)
    for which in ("best", "final", "latest"):
        stored = checkpoint.load(tmp_path / "f" / f"checkpoint_{which}.pt", CPU)["network"]
        assert not any("gate" in name or "encoder.1.squeeze" in name for name in stored)
        build_network(own).load_state_dict(stored)
    pruned = build_network(own)
    pruned.load_state_dict(checkpoint.load(tmp_path / "f" / "checkpoint_final.pt", CPU)["network"])
    whole = focal.network
    x = torch.randn(2, 1, 8, 16, 16)
    for module in focal.modules.values():
        module.off = False  # compute A^0 instead of skipping
    assert float(focal.modules["gate@0"].gamma) == 0.0
    with torch.no_grad():
        for a, b in zip(pruned.eval()(x), whole.eval()(x), strict=True):
            assert torch.equal(a, b)


# Interrupted in the first step, before the judgement (after step 4), right at it, after it, and in the last step.
@pytest.mark.parametrize(
    ("stop", "augmentation"), [(1, "device"), (3, "device"), (4, "device"), (5, "workers"), (11, "device")]
)
def test_an_interrupted_run_ends_bit_identical(tmp_path, cases, monkeypatch, stop, augmentation):
    options = {"augmentation": augmentation, "threads": 2}
    drop(monkeypatch, trainer(tmp_path / "whole", cases, **options), "se@0").run()
    interrupted = drop(monkeypatch, trainer(tmp_path / "parts", cases, **options), "se@0")
    step = interrupted.step

    def until_stopped(samples):
        if interrupted.state.step == stop - 1:
            signal.raise_signal(signal.SIGTERM)
        return step(samples)

    monkeypatch.setattr(interrupted, "step", until_stopped)
    with pytest.raises(KeyboardInterrupt):
        interrupted.run()
    latest = checkpoint.load(tmp_path / "parts" / "checkpoint_latest.pt", CPU)["network"]
    build_network(read_json(tmp_path / "parts" / "architecture.json", Architecture)).load_state_dict(latest)
    drop(monkeypatch, trainer(tmp_path / "parts", cases, **options), "se@0").run()
    for which in ("final", "best"):
        whole, parts = (
            checkpoint.load(tmp_path / name / f"checkpoint_{which}.pt", CPU)["network"] for name in ("whole", "parts")
        )
        assert same(whole, parts)
    a, b = (entries(tmp_path / name) for name in ("whole", "parts"))
    assert [e["train_loss"] for e in a] == [e["train_loss"] for e in b]
    assert a[0]["judgement"] == b[0]["judgement"]
    assert (tmp_path / "whole" / "architecture.json").read_bytes() == (
        tmp_path / "parts" / "architecture.json"
    ).read_bytes()


def test_a_run_killed_in_the_judgement_resumes_bit_identical(tmp_path, cases, monkeypatch):
    trainer(tmp_path / "whole", cases).run()
    killed = trainer(tmp_path / "parts", cases)
    save_each_step(monkeypatch, killed)
    monkeypatch.setattr(killed, "log_verdicts", lambda verdicts: 1 / 0)  # architecture.json is written, `latest` is not
    with pytest.raises(ZeroDivisionError):
        killed.run()
    trainer(tmp_path / "parts", cases).run()
    assert same(*(checkpoint.load(tmp_path / n / "checkpoint_final.pt", CPU)["network"] for n in ("whole", "parts")))


def save_each_step(monkeypatch, trainer):
    monkeypatch.setattr("unetrpp.trainers.trainer.SAVE_SECONDS", -1.0)


def test_modules_of_constant_coefficients_or_small_gamma_are_dropped(tmp_path, cases):
    focal = trainer(tmp_path / "f", cases)
    flat, zero, good = (focal.modules[place] for place in PLACES)
    assert isinstance(flat, AttentionGate)
    assert isinstance(good, SqueezeExcitation)
    with torch.no_grad():
        for parameter in (*flat.of_skip.parameters(), *flat.of_signal.parameters()):
            parameter.zero_()  # the same features everywhere
        zero.gamma.fill_(0.01)
        good.bias.copy_(torch.linspace(-3, 3, len(good.bias)))
    verdicts = {v.module: v for v in focal.judge()}
    assert verdicts["gate@0"].contrast == pytest.approx(0, abs=1e-6)
    assert [verdicts[place].kept for place in PLACES] == [False, False, True]
    assert verdicts["gate@0"].dice_change == pytest.approx(0, abs=1e-6)
    assert not any(module.averaged or module.watcher for module in focal.modules.values())


def test_contrast_is_std_over_mean_of_each_sample():
    a = torch.tensor([[[0.2, 0.4], [0.6, 0.8]], [[0.5, 0.5], [0.5, 0.5]]])
    torch.testing.assert_close(contrast(a), torch.tensor([0.05**0.5 / 0.5, 0.0]))


def test_candidates_are_the_plans_own_modules_or_all():
    plan = configuration().architecture
    assert plan.focal_candidates().focal_gammas() == dict.fromkeys(PLACES, 1.0)
    own = plan.with_focal({"se@1": 0.7})
    assert own.focal_candidates() == own
    assert own.with_focal({}) == plan


def test_the_plans_gammas_are_the_start(tmp_path, cases):
    plan = configuration()
    plan = msgspec.structs.replace(plan, architecture=plan.architecture.with_focal({"gate@0": 0.5}))
    focal = trainer(tmp_path / "f", cases, plan=plan)
    assert {place: m.gamma.item() for place, m in focal.modules.items()} == {"gate@0": 0.5}
    assert focal.modules["gate@0"].gamma.requires_grad


@pytest.mark.parametrize("network", ["unetrpp", "unet", "resunet"])
def test_modules_are_found_on_their_levels(network):
    patch, strides = (8, 16, 16), [(1, 2, 2), (2, 2, 2)]
    plain = {
        "unetrpp": unetrpp_architecture(1, 2, patch, strides, width=0.5),
        "unet": unet_architecture(1, 2, patch, strides, width=0.5),
        "resunet": unet_architecture(1, 2, patch, strides, residual=True, width=0.5),
    }[network]
    places = {"gate@0": 0.1, "gate@1": 0.2, "se@0": 0.3, "se@2": 0.4}
    architecture = plain.with_focal(places)
    found = modules_by_place(build_network(architecture), architecture)
    assert {place: pytest.approx(module.gamma.item()) for place, module in found.items()} == places
    with pytest.raises(UserError, match="does not hold"):
        modules_by_place(build_network(plain), architecture)


def test_hours_and_patience_wait_for_the_judgement(tmp_path, cases, monkeypatch):
    hurried = trainer(tmp_path / "f", cases, epochs=500, max_hours=1e-9, patience=1)
    hurried.run()
    assert hurried.state.step == 1
    assert "judgement" in entries(tmp_path / "f")[0]
