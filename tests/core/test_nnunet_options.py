"""Options of nnU-Net's commands are answered with what to type here."""

import pytest

from tests.test_options import PARSERS
from unetrpp.core.nnunet_options import INSTEAD, advice


@pytest.mark.parametrize("command", sorted(INSTEAD))
def test_only_options_that_the_command_lacks_are_nnunets_and_what_takes_their_place_exists(command):
    parser = PARSERS[command.removeprefix("unetrpp_").replace("_", "-")]()
    own = {flag for action in parser._actions for flag in action.option_strings}
    assert not own & set(INSTEAD[command])
    named = {word.strip(",") for text in INSTEAD[command].values() for word in text.split() if word.startswith("--")}
    assert named - {"--nproc-per-node"} <= own


def test_a_flag_that_argparse_would_take_for_the_name_of_plans_is_refused(capsys):
    parser = PARSERS["train"]()
    with pytest.raises(SystemExit) as stopped:
        parser.refuse_unknown_flags(["4", "3d_fullres", "-pretrained_weights", "checkpoint_final.pth"])
    assert stopped.value.code == 2
    assert "-pretrained_weights is an option of nnU-Net; here: --pretrained" in capsys.readouterr().err


def test_other_arguments_and_commands_are_left_alone():
    assert advice("unetrpp_predict", ["-i", "images", "-o", "out", "-m", "model", "--folds", "0"]) is None
    assert advice("unetrpp_cost", ["-d", "4"]) is None
