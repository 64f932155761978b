"""torch.compile is tried first, and leaves nothing behind where it fails."""

import pytest
import torch

from tests.helpers.tiny import configuration, store_balls
from unetrpp.core.errors import UserError
from unetrpp.model import checkpoint
from unetrpp.networks.blocks import ConvolutionBlock
from unetrpp.networks.build import blocks_of, build_network
from unetrpp.networks.design import unet_architecture
from unetrpp.trainers import compilation
from unetrpp.trainers.compilation import NO_LEAF, compile_blocks, compile_everywhere, compile_network, interpret_blocks
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.distributed import Processes
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.trainer import Trainer


@pytest.mark.parametrize("works", [True, False])
def test_the_trial_changes_nothing_and_a_failure_disables_compilation(monkeypatch, caplog, works):
    block = ConvolutionBlock(1, 2, (1, 1, 1), norm=torch.nn.BatchNorm3d)
    network = torch.nn.Sequential(block)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    calls = []

    def loss():
        calls.append((network.training, torch.is_grad_enabled()))
        if not works:
            raise RuntimeError("no compiler\nlong story")
        return network(torch.rand(2, 1, 4, 4, 4)).sum()

    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    assert compile_network(network, loss) is works
    assert calls == [(True, True), (False, False)][: 2 if works else 1]
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert ("no compiler" in caplog.text) is not works
    assert ("forward" in vars(block)) is works


def test_a_failure_in_validation_is_found_before_the_first_epoch(monkeypatch, caplog):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    network = torch.nn.Linear(2, 1)

    def loss():
        if not network.training:
            raise AssertionError  # without a message
        return network(torch.rand(2, 2)).sum()

    assert not compile_network(network, loss)
    assert "(AssertionError)" in caplog.text


@pytest.mark.parametrize(
    ("device", "asked", "expected"),
    [("cuda", None, True), ("cpu", None, False), ("mps", None, False), ("cuda", False, False), ("cpu", True, True)],
)
def test_it_is_tried_on_cuda_unless_told_otherwise(device, asked, expected):
    assert Machine(torch.device(device), compile=asked).compiles(5000) is expected


@pytest.mark.parametrize(("asked", "expected"), [(None, False), (True, True)])
def test_a_short_training_is_not_compiled_unless_asked(asked, expected):
    assert Machine(torch.device("cuda"), compile=asked).compiles(4999) is expected


@pytest.mark.parametrize("others_work", [True, False])
def test_processes_that_disagree_stop(monkeypatch, others_work):
    """All of them have the others' answers; one that waits for a failed one's batch norm would wait forever."""
    monkeypatch.setattr(compilation, "compile_network", lambda network, probe: True)
    processes = Processes(rank=0, count=2)
    monkeypatch.setattr(Processes, "all_reduce_max", lambda self, *own: [1.0, float(not others_work)])
    if others_work:
        compile_everywhere(torch.nn.Linear(1, 1), lambda: torch.zeros(()), processes)
        return
    with pytest.raises(UserError, match=r"works in some of the processes only; train with --no-compile"):
        compile_everywhere(torch.nn.Linear(1, 1), lambda: torch.zeros(()), processes)


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that were compiled; a compiler that takes them as they are needs no C++ compiler."""
    made = []

    def backend(graph, inputs):
        made.append(torch.is_grad_enabled())
        return graph.forward

    compiled = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **options: compiled(function, backend=backend, **options))
    yield made
    torch.compiler.reset()


def test_all_graphs_are_compiled_in_the_trial_for_any_number_of_folds(tmp_path, graphs):
    """Of every kind of block one for training and one for validation; weights and names in checkpoints are those of a plain run."""
    store = store_balls(tmp_path / "store", 4)
    cases = [store.open(case) for case in store.cases()]
    data = FoldData(configuration(), cases[:3], cases[3:])
    blocks = blocks_of(build_network(data.configuration.architecture))
    kinds = len({(type(block), *(value.shape for value in block.state_dict().values())) for block in blocks})

    def final(fold: int, compiled: bool) -> dict[str, torch.Tensor]:
        folder = tmp_path / f"fold_{fold}_{compiled}"
        folder.mkdir()
        Trainer(data, TrainingConfig(fold=fold, epochs=2, iterations=3), folder, Machine(compile=compiled)).run()
        weights = checkpoint.load(folder / "checkpoint_final.pt", torch.device("cpu"))["network"]
        assert isinstance(weights, dict)
        return weights

    for fold in range(5):
        found = final(fold, compiled=True)
        assert graphs == [*[True] * kinds, *[False] * kinds] * (fold + 1)
    expected = final(4, compiled=False)
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings(f"ignore:{NO_LEAF}:UserWarning")
def test_blocks_of_one_kind_share_what_is_compiled_and_any_number_of_kinds_is(graphs):
    """torch keeps 8 variants of one function at most, and would run the others as they are."""
    strides = [(2, 2, 2)] * 4
    network = build_network(unet_architecture(1, 2, (16, 16, 16), strides, width=0.25, residual=True))
    blocks = list(blocks_of(network))
    kinds = {(type(block), *(value.shape for value in block.state_dict().values())) for block in blocks}
    assert 10 < len(kinds) < len(blocks)
    x = torch.rand(2, 1, 16, 16, 16)
    expected = [output.detach() for output in network(x)]
    compile_blocks(network)
    found = network(x)
    assert len(graphs) == len(kinds)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    interpret_blocks(network)
    network(x)
    assert len(graphs) == len(kinds)


def test_a_network_without_our_blocks_is_compiled_as_one(graphs):
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    assert compile_network(network, lambda: network(torch.ones(2, 4)).sum())
    assert graphs == [True, False]


def test_a_network_whose_forward_has_defaults(graphs):
    class Own(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(2, 1)

        def forward(self, x: torch.Tensor, shift: float = 1.0, *, scale: float = 2.0) -> torch.Tensor:
            return scale * torch.nn.functional.relu(self.linear(x)) + shift

    network = Own()
    assert compile_network(network, lambda: network(torch.ones(4, 2)).sum())
    assert graphs == [True, False]


@pytest.mark.filterwarnings("error")
def test_a_kind_of_block_at_many_levels_is_compiled_at_all_of_them(graphs):
    """The widest blocks of a 2D U-Net are at five levels, with a stride and without, in training and in validation."""
    network = build_network(unet_architecture(1, 2, (256, 256), [(2, 2)] * 7, width=1 / 16))
    x, used = torch.rand(1, 1, 256, 256), set()

    def note(block: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        shapes = tuple(value.shape for value in block.state_dict().values())
        used.add((type(block.norm), shapes, block.conv.stride, given[0].shape))

    hooks = [block.register_forward_pre_hook(note) for block in blocks_of(network)]
    network(x)
    for hook in hooks:
        hook.remove()
    assert compile_network(network, lambda: sum(output.mean() for output in network(x)))
    assert len(graphs) == 2 * len(used)
