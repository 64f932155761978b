"""Any dataset: random plans give networks that train, predict and export."""

import math

import msgspec
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unetrpp.core.errors import UserError
from unetrpp.networks.blocks import ResidualBlock
from unetrpp.networks.build import build_network
from unetrpp.networks.design import unet_architecture, unetrpp_architecture, with_pooled_attention
from unetrpp.networks.layout import is_channels_last
from unetrpp.plans.architecture import Architecture

MOST_VOXELS = 6000


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """2D and 3D, anisotropic and odd sizes, strides that differ by axis, any channels, classes, depths and kinds."""
    dimensions = draw(st.sampled_from([2, 3]))
    strides = draw(st.lists(st.tuples(*[st.sampled_from([1, 2])] * dimensions), min_size=1, max_size=5))
    if draw(st.booleans()):
        strides[0] = tuple(draw(st.sampled_from([1, 2, 3])) for _ in range(dimensions))
    patch = [math.prod(axis) for axis in zip(*strides, strict=True)]
    for axis in range(dimensions):
        fewest = 2 if math.prod(patch) < 32 else 1
        patch[axis] *= draw(st.integers(fewest, max(fewest, min(5, MOST_VOXELS // math.prod(patch)))))
    inputs = draw(st.sampled_from([1, 2, 3, 30]))
    outputs = draw(st.sampled_from([2, 3, 14, 100]))
    width = draw(st.sampled_from([0.25, 0.5]))
    if draw(st.booleans()):
        made = unet_architecture(inputs, outputs, tuple(patch), strides, residual=draw(st.booleans()), width=width)
    else:
        made = unetrpp_architecture(
            inputs,
            outputs,
            tuple(patch),
            strides,
            width=width,
            blocks=draw(st.integers(1, 2)),
            norm=draw(st.sampled_from(["batch", "instance", "group"])),
            layer_scale=draw(st.sampled_from([1e-6, 1.0])),
        )
    levels = [draw(changed(level, i)) for i, level in enumerate(made.levels)]
    made = msgspec.structs.replace(made, levels=tuple(levels), projection=draw(st.sampled_from(["shared", "separate"])))
    sizes = draw(st.sampled_from([8, 64])), draw(st.sampled_from([None, 16]))
    return with_pooled_attention(made, *sizes) if draw(st.booleans()) else made


@st.composite
def changed(draw: st.DrawFn, level, i):
    """A level with or without attention, gate and squeeze-and-excitation."""
    gamma = st.sampled_from([None, 0.7, 1.0])
    changes = {"gate": draw(gamma) if level.decoder_blocks else None, "squeeze_excitation": draw(gamma)}
    if level.attention == "epa" and draw(st.booleans()):
        changes["attention"] = "conv"
    return msgspec.structs.replace(level, **changes)


def without_gradient(network, architecture):
    """Trainable parameters that did not move, save those that cannot by construction."""
    single = [f".{i - 1}." for i, n in enumerate(architecture.tokens()) if n == 1 and i > 0]
    may = (
        "skip.conv",  # with one channel in, it scales what is normalised next
        "squeeze_excitation",  # four hidden units may all be at rest
        "bias",  # before a norm
        *single,  # a norm over one voxel, softmax over one token
    )
    still = [name for name, p in network.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    return [name for name in still if not any(part in name for part in may)]


@given(architecture=architectures())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_plan_trains_at_batch_one_and_predicts(architecture):
    torch.manual_seed(0)
    network = build_network(architecture)
    for block in network.modules():
        if isinstance(block, ResidualBlock) and architecture.network == "resunet":
            torch.nn.init.ones_(block.norm2.weight)  # with 0, its start, no gradient reaches the block at first
    x = torch.randn(1, architecture.in_channels, *architecture.patch)
    outputs = network(x)
    sizes = [tuple(n // s for n, s in zip(architecture.patch, by, strict=True)) for by in architecture.head_strides()]
    assert [tuple(y.shape) for y in outputs] == [(1, architecture.out_channels, *size) for size in sizes]
    sum((y * torch.randn_like(y)).mean() for y in outputs).backward()
    assert without_gradient(network, architecture) == []

    network.eval().deep_supervision = False
    with torch.no_grad():
        first, second = network(x), network(x)
        # In float64: norms over a few voxels, one after the other, amplify what float32 rounds.
        double, x = network.double(), x.double()
        alone, pair = double(x), double(torch.cat([x, x + 1]))
    assert torch.equal(first, second)
    assert is_channels_last(first)
    torch.testing.assert_close(pair[:1], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("network", ["unetrpp", "pooled", "coarse", "unet", "resunet"])
def test_export_and_compilation_see_plain_operators(network, dimensions):
    patch, strides = (16,) * dimensions, [(2,) * dimensions] * 2
    if network in ("unetrpp", "pooled", "coarse"):
        architecture = unetrpp_architecture(1, 2, patch, strides, width=0.25, blocks=1)
        if network != "unetrpp":
            architecture = with_pooled_attention(architecture, 27, 64 if network == "coarse" else None)
    else:
        architecture = unet_architecture(1, 2, patch, strides, residual=network == "resunet", width=0.25)
    levels = [
        msgspec.structs.replace(level, gate=1.0 if level.decoder_blocks else None, squeeze_excitation=0.5)
        for level in architecture.levels
    ]
    made = build_network(msgspec.structs.replace(architecture, levels=tuple(levels))).eval()
    made.deep_supervision = False
    x = torch.randn(1, 1, *patch)
    program = torch.export.export(made, (x,))
    assert not any("unetrpp" in str(node.target) for node in program.graph.nodes)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x), made(x), rtol=1e-4, atol=1e-4)


def test_training_is_repeatable_from_a_seed():
    architecture = unetrpp_architecture(1, 2, (8, 16, 16), [(1, 2, 2), (2, 2, 2)], width=0.25, blocks=1)
    losses = []
    for _ in range(2):
        torch.manual_seed(3)
        network = build_network(architecture)
        x = torch.randn(2, 1, 8, 16, 16)
        loss = sum((y**2).mean() for y in network(x))
        loss.backward()
        losses.append((loss.item(), *[p.grad.norm().item() for p in network.parameters() if p.grad is not None]))
    assert losses[0] == losses[1]


def test_a_gradient_step_lowers_the_loss_of_every_family():
    for architecture in (
        unetrpp_architecture(1, 2, (8, 8, 8), [(2, 2, 2)] * 2, width=0.25, blocks=1),
        unet_architecture(1, 2, (8, 8, 8), [(2, 2, 2)] * 2, width=0.25),
        unet_architecture(1, 2, (8, 8, 8), [(2, 2, 2)] * 2, residual=True, width=0.25),
    ):
        torch.manual_seed(0)
        network = build_network(architecture)
        optimizer = torch.optim.Adam(network.parameters(), 1e-3)
        x = torch.randn(2, 1, 8, 8, 8)
        target = (x[:, 0] > 0).long()
        losses = []
        for _ in range(8):
            loss = torch.nn.functional.cross_entropy(network(x)[0], target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.8 * losses[0]


GOOD = unetrpp_architecture(1, 2, (16, 16, 16), [(2, 2, 2)] * 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch": (16, 16, 18)}, "not a multiple"),
        ({"patch": (16, 16)}, "product"),
        ({"network": "nonesuch"}, "nonesuch"),
        ({"supervised_levels": 3}, "supervised"),
        ({"heads": 5}, "heads"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        build_network(msgspec.structs.replace(GOOD, **change))


def test_state_and_gates_survive_pruning():
    """The checkpoint of a network with a gate loads where the gate was switched off (gamma 0) and nowhere else."""
    levels = (msgspec.structs.replace(GOOD.levels[0], gate=1.0), *GOOD.levels[1:])
    pruned = (msgspec.structs.replace(GOOD.levels[0], gate=0.0), *GOOD.levels[1:])
    trained = build_network(msgspec.structs.replace(GOOD, levels=levels))
    build_network(msgspec.structs.replace(GOOD, levels=pruned)).load_state_dict(trained.state_dict())
    with pytest.raises(RuntimeError, match="gate"):
        build_network(GOOD).load_state_dict(trained.state_dict())


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch instantiates it itself
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", ["unetrpp", "unet", "resunet", "gated"])
def test_torch_compile_sees_one_graph(kind, training):
    """With fullgraph a call that torch.compile cannot trace is an error; otherwise it splits the network there."""
    size = (1, 3, (8, 16, 16), [(2, 2, 2)])
    if kind == "unetrpp":
        made = unetrpp_architecture(*size, width=0.25)
        # The CPU's own attention draws other random numbers than the one that is compiled.
        made = msgspec.structs.replace(made, dropout=0.0, attention_dropout=0.0)
    else:
        made = unet_architecture(*size, width=0.25, residual=kind == "resunet")
    if kind == "gated":
        levels = [msgspec.structs.replace(level, squeeze_excitation=0.7) for level in made.levels]
        levels[0] = msgspec.structs.replace(levels[0], gate=1.5)
        made = msgspec.structs.replace(made, levels=tuple(levels))
    network = build_network(made).train(training)
    x = torch.randn(2, 1, 8, 16, 16)
    compiled = torch.compile(network, backend="eager", fullgraph=True)

    def outputs_and_gradient(run):
        network.zero_grad()
        outputs = run(x)
        sum(output.square().mean() for output in outputs).backward()
        return [*outputs, *(weight.grad for weight in network.parameters() if weight.grad is not None)]

    for found, expected in zip(outputs_and_gradient(compiled), outputs_and_gradient(network), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
