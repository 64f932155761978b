"""One store: what is kept, linked from another store, preprocessed and removed, and that an error costs one case only."""

from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest

from tests.helpers.raw_dataset import make_case, write_case, write_dataset
from tests.helpers.tiny import configuration
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset.verification import inputs_digest
from unetrpp.planners.preprocess import preprocess_dataset
from unetrpp.preprocessing.store import Store


@pytest.fixture
def blocks(tmp_path):
    """Preprocess the raw dataset as it is now into a store of this name; returns the store and the cases that failed."""
    raw_folder = write_dataset(tmp_path / "raw" / "Blocks")

    def preprocessed(name, **changes):
        raw = read_dataset(raw_folder, "Blocks")
        plan = msgspec.structs.replace(configuration().preprocessing, labels=raw.description.labels, **changes)
        digests = {case.id: inputs_digest(case) for case in raw.cases}
        folder = tmp_path / "preprocessed" / name
        with ThreadPoolExecutor(1) as here:
            errors = preprocess_dataset(raw, plan, folder, digests=digests, stage=name, executor=here)
        return Store(folder), [error.case for error in errors]

    return preprocessed


def files_linked(one, other):
    return {path.name for path in one.folder.glob("*.b2nd") if path.samefile(other.folder / path.name)}


def test_stores_share_what_is_preprocessed_alike_whatever_the_patch(blocks):
    first, errors = blocks("a_3d_fullres")
    assert errors == []
    second, _ = blocks("b_3d_fullres", chunk=(4, 4, 4))
    assert len(files_linked(second, first)) == 3 * 4
    third, _ = blocks("c_3d_fullres", spacing_mm=(2.0, 2.0, 2.0))
    assert files_linked(third, first) == set()
    assert third.cases() == first.cases()


def test_changed_cases_are_preprocessed_again_and_the_others_left_alone(blocks, tmp_path):
    store, _ = blocks("a_3d_fullres")
    before = {case: store.open(case).read((0, 0, 0), store.open(case).shape)[0] for case in store.cases()}
    times = {path.name: path.stat().st_mtime_ns for path in store.folder.glob("*.json")}
    write_case(tmp_path / "raw" / "Blocks", "case_2", *make_case(77))
    blocks("a_3d_fullres")
    written = {path.name for path in store.folder.glob("*.json") if path.stat().st_mtime_ns != times[path.name]}
    assert written == {"case_2.json"}
    again = store.open("case_2")
    assert not np.array_equal(again.read((0, 0, 0), again.shape)[0], before["case_2"])


def test_cases_removed_from_the_dataset_are_removed_from_the_store(blocks, tmp_path):
    store, _ = blocks("a_3d_fullres")
    for path in (tmp_path / "raw" / "Blocks").rglob("case_1*"):
        path.unlink()
    blocks("a_3d_fullres")
    assert store.cases() == ["case_0", "case_2", "case_3"]
    assert not list(store.folder.glob("case_1*"))


def test_a_case_that_cannot_be_preprocessed_is_named_and_the_others_are_done(blocks, tmp_path):
    (tmp_path / "raw" / "Blocks" / "imagesTr" / "case_3_0000.nii.gz").write_bytes(b"no image")
    store, errors = blocks("a_3d_fullres")
    assert errors == ["case_3"]
    assert store.cases() == ["case_0", "case_1", "case_2"]


def test_the_labels_to_validate_with_are_those_of_the_dataset(blocks, tmp_path):
    """Also where a store is current and the copy is of what another store was made from meanwhile, or missing."""
    raw, copies = tmp_path / "raw" / "Blocks" / "labelsTr", tmp_path / "preprocessed" / "labels"
    blocks("a_3d_fullres")
    original = (raw / "case_1.nii.gz").read_bytes()
    image, label = make_case(1)
    write_case(tmp_path / "raw" / "Blocks", "case_1", image, np.roll(label, 2, axis=1))
    blocks("b_3d_fullres")
    assert (copies / "case_1.nii.gz").read_bytes() != original
    (raw / "case_1.nii.gz").write_bytes(original)
    (copies / "case_2.nii.gz").unlink()
    blocks("a_3d_fullres")
    assert {path.name: path.read_bytes() for path in copies.iterdir()} == {
        path.name: path.read_bytes() for path in raw.iterdir()
    }
