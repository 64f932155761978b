"""BTCV in miniature: the scans of Synapse, with those of Testing as test cases, and its own division."""

from tests.dataset_conversion.datasets.test_synapse import download
from tests.helpers.downloads import convert, train_two_steps
from unetrpp.dataset.cases import read_dataset
from unetrpp.evaluation.protocol import read_protocol


def test_the_scans_for_the_server_become_test_cases(tmp_path):
    root = download(tmp_path / "RawData")
    converted = convert("btcv", root, tmp_path / "w")
    assert (converted.errors, converted.test_cases) == ((), ("img0061",))
    assert (converted.folder.name, [*(converted.folder / "labelsTs").glob("*")]) == ("BTCV", [])
    assert len(read_dataset(converted.folder, "BTCV").cases) == 3
    assert train_two_steps(converted, tmp_path / "w").is_file()


def test_the_benchmark_holds_out_its_6_cases_and_leaves_the_servers_alone(tmp_path, caplog):
    caplog.set_level("INFO")
    protocol = read_protocol("btcv")
    root = download(tmp_path / "RawData", [int(case[3:]) for case in (*protocol.train, *protocol.test)])
    converted = convert("btcv", root, tmp_path / "w", protocol="btcv")
    assert converted.test_cases == ("img0035", "img0036", "img0037", "img0038", "img0039", "img0040")
    assert len(converted.cases) == 30
    assert "1 case is in none of its lists and not converted" in caplog.text
