"""The tables of the attention report that need no case: temperatures of a network, and what attention learning kept."""

import msgspec
import numpy as np

from tests.helpers.model import PLAN
from tests.helpers.scores import label_scheme
from unetrpp.networks.build import build_network
from unetrpp.networks.design import unetrpp_architecture
from unetrpp.report.attention_maps import AttentionFindings, ModuleFinding
from unetrpp.report.attention_report import judgement_table, modules_table, temperatures_table


def test_temperatures_and_judgement(tmp_path):
    network = build_network(unetrpp_architecture(1, 2, (8, 16, 16), [(2, 2, 2), (2, 2, 2)], width=0.5, blocks=1))
    header, *rows = temperatures_table(network)
    assert header[0] == "EPA stage"
    assert [row[0] for row in rows] == ["encoder.0", "encoder.1", "decoder.1"]
    assert rows[0][1] == "1.000 (1.000 to 1.000)"
    assert temperatures_table(build_network(PLAN.architecture)) == []
    assert judgement_table(tmp_path) == []
    verdict = {"module": "se@1", "gamma": 0.9, "contrast": 0.01, "dice_change": -0.002, "kept": False}
    lines = [{"epoch": 1}, {"epoch": 2, "judgement": [verdict]}]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(msgspec.json.encode(line) for line in lines))
    assert judgement_table(tmp_path)[1] == ["se@1", "0.900", "0.010", "-0.0020", "dropped"]


def test_above_five_classes_the_modules_have_a_mean():
    scores = {str(k): {"Dice": k / 10 if k < 7 else None} for k in range(1, 8)}
    lower = {key: {"Dice": None if s["Dice"] is None else s["Dice"] - 0.05} for key, s in scores.items()}
    image = np.zeros((2, 4, 4))
    module = ModuleFinding("gate@0", (2, 2, 2), 1.0, 0.5, 0.1, lower, image, None)
    findings = AttentionFindings(image, (1.0, 1.0, 1.0), image, None, scores, (module,))
    header, row = modules_table(findings, label_scheme(7))
    assert header[5:] == ["Dice mean of 7 classes", "with mean", "change"]
    assert row[5:] == ["0.3500", "0.3000", "-0.0500"]
    assert len(modules_table(findings, label_scheme(3))[0]) == 5 + 9
