"""What a user may place, and what is refused in one sentence."""

import pytest

from unetrpp.core.errors import UserError
from unetrpp.networks.design import unet_architecture, unetrpp_architecture
from unetrpp.planners.rules.attention_overrides import Override, overridden, parse_override, require_possible

NETWORK = unetrpp_architecture(1, 2, (64, 64, 64), [(2, 2, 2)] * 4)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (Override("gate", 9, 1.0), "levels 0"),
        (Override("gate", 3, 1.0), "no skip connection"),
        (Override("epa", 0, 1.0), "from level 1 on"),
    ],
)
def test_impossible_overrides(override, message):
    with pytest.raises(UserError, match=message):
        require_possible(NETWORK, override)


@pytest.mark.parametrize("text", ["gate1=2", "gate@1=-1", "epa@1=0.5", "skip@1=1"])
def test_unreadable_overrides(text):
    with pytest.raises(UserError):
        parse_override(text)


def test_a_u_net_has_no_epa():
    with pytest.raises(UserError, match="in level 1 of unet use gate or se"):
        require_possible(unet_architecture(1, 2, (16, 16), [(2, 2)]), Override("epa", 1, 1.0))


def test_one_module_changes_and_the_others_stay():
    level = NETWORK.levels[1]
    gated = overridden(level, parse_override("gate@1=1.5"))
    assert (gated.gate, gated.squeeze_excitation, gated.attention) == (1.5, None, "epa")
    plain = overridden(gated, parse_override("epa@1=off"))
    assert (plain.gate, plain.attention) == (1.5, "conv")
    assert overridden(plain, parse_override("gate@1=off")).gate is None
