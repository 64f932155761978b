"""Digests: equal to plain SHA-256 over JSON, except that later fields at their default are left out."""

import hashlib
from typing import ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetrpp.core.digest import Derived, digest, file_digest, read_current
from unetrpp.core.files import Record, write_bytes, write_json


class Leaf(Record, frozen=True, kw_only=True):
    value: int
    renamed: str = msgspec.field(name="old", default="")


class Tree(Record, frozen=True, kw_only=True):
    name: str
    leaf: Leaf
    leaves: tuple[Leaf, ...] = ()
    table: dict[str, Leaf] = msgspec.field(default_factory=dict)


class LaterLeaf(Leaf, frozen=True, kw_only=True):
    """Leaf as a later release writes it."""

    later_fields: ClassVar[frozenset[str]] = frozenset({"share", "names"})
    share: float = 0.5
    names: list[str] = msgspec.field(default_factory=list)


class LaterTree(Record, frozen=True, kw_only=True):
    later_fields: ClassVar[frozenset[str]] = frozenset({"added"})
    name: str
    leaf: LaterLeaf
    added: int | None = None  # in the middle, so that the order of the other fields is tested
    leaves: tuple[LaterLeaf, ...] = ()
    table: dict[str, LaterLeaf] = msgspec.field(default_factory=dict)


def plain_digest(*contents: bytes) -> str:
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]


def in_order(value) -> bytes:
    """msgspec's own rule: fields in their order, the keys of dicts sorted."""
    return msgspec.json.encode(value, order="deterministic")


integers = st.integers(-(2**31), 2**31)
leaves = st.builds(Leaf, value=integers, renamed=st.text(max_size=5))
trees = st.builds(
    Tree,
    name=st.text(max_size=5),
    leaf=leaves,
    leaves=st.lists(leaves, max_size=3).map(tuple),
    table=st.dictionaries(st.text(max_size=5), leaves, max_size=3),
)
values = st.recursive(
    st.none() | st.booleans() | integers | st.floats(allow_nan=False) | st.text(max_size=5) | trees,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_without_later_fields_it_is_the_hash_of_the_json(value):
    assert digest(value) == plain_digest(in_order(value))


@given(st.lists(st.binary(max_size=8) | trees, max_size=4))
def test_parts_are_hashed_in_order_and_bytes_as_they_are(parts):
    expected = plain_digest(*(part if isinstance(part, bytes) else in_order(part) for part in parts))
    assert digest(*parts) == expected
    assert digest(*(memoryview(part) if isinstance(part, bytes) else part for part in parts)) == expected


@given(trees)
def test_later_fields_at_their_default_leave_the_digest_as_it_was(tree):
    def later(leaf):
        return LaterLeaf(value=leaf.value, renamed=leaf.renamed)

    same = LaterTree(
        name=tree.name,
        leaf=later(tree.leaf),
        leaves=tuple(later(leaf) for leaf in tree.leaves),
        table={key: later(leaf) for key, leaf in tree.table.items()},
    )
    assert in_order(same) != in_order(tree)  # as JSON the two differ
    assert digest(same) == digest(tree)


LATER = LaterTree(name="a", leaf=LaterLeaf(value=1), leaves=(LaterLeaf(value=2),), table={"k": LaterLeaf(value=3)})


@pytest.mark.parametrize(
    "changed",
    [
        msgspec.structs.replace(LATER, added=0),
        msgspec.structs.replace(LATER, leaf=LaterLeaf(value=1, share=0.25)),
        msgspec.structs.replace(LATER, leaves=(LaterLeaf(value=2, names=["x"]),)),
        msgspec.structs.replace(LATER, table={"k": LaterLeaf(value=3, share=0.0)}),
    ],
)
def test_later_fields_count_where_they_differ(changed):
    assert digest(changed) != digest(LATER)


def test_a_later_field_that_differs_is_encoded_under_its_name_in_its_place():
    changed = msgspec.structs.replace(LATER, added=7, leaf=LaterLeaf(value=1, share=0.25))
    leaf = {"value": 1, "old": "", "share": 0.25}
    content = {
        "name": "a",
        "leaf": leaf,
        "added": 7,
        "leaves": [{"value": 2, "old": ""}],
        "table": {"k": {"value": 3, "old": ""}},
    }
    assert digest(changed) == plain_digest(msgspec.json.encode(content))


def test_the_order_of_a_dict_does_not_count_and_that_of_a_list_does():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest([1, 2]) != digest([2, 1])


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_a_files_digest_is_that_of_its_bytes(tmp_path, size):
    content = bytes(i % 251 for i in range(size))
    (tmp_path / "a").write_bytes(content)
    assert file_digest(tmp_path / "a") == hashlib.sha256(content).digest()


class Score(Derived, frozen=True, kw_only=True):
    value: int


def test_a_derived_record_counts_while_its_inputs_are_the_same(tmp_path):
    path, inputs = tmp_path / "score.json", digest("a label", "a prediction")
    assert read_current(path, Score, inputs) is None  # missing
    write_json(path, Score(made_from=inputs, value=3))
    assert read_current(path, Score, inputs) == Score(made_from=inputs, value=3)
    assert read_current(path, Score, digest("a corrected label", "a prediction")) is None
    write_json(path, {"value": 3})  # as release 0.1.0 wrote it
    assert read_current(path, Score, inputs) is None
    write_bytes(path, b'{"value":')
    assert read_current(path, Score, inputs) is None
