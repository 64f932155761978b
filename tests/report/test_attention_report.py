"""The tables of the attention report that need no case: temperatures of a network, and what attention learning kept."""

import msgspec

from tests.helpers.model import PLAN
from unetrpp.networks.build import build_network
from unetrpp.networks.design import unetrpp_architecture
from unetrpp.report.attention_report import judgement_table, temperatures_table


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
