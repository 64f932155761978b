"""Tables of downloads, as programs and users save them."""

import pytest

from unetrpp.core.errors import UserError
from unetrpp.dataset_conversion.tables import read_table


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_rows_may_end_early_or_late(tmp_path, mark, delimiter):
    path = tmp_path / "meta.csv"
    rows = [["case", "split"], ["a", " train "], ["b"], ["c", "test", "more"]]
    path.write_text(mark + "\r\n".join(delimiter.join(row) for row in rows), encoding="utf8")
    assert read_table(path, ("case", "split")) == [
        {"case": "a", "split": "train"},
        {"case": "b", "split": ""},
        {"case": "c", "split": "test"},
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no column 'case'"),
        (b"case\na\n", "has no column 'split'"),
        (b"case,split\n\xe9,train\n", "is no table in UTF-8"),
        (b"case,split\n" + b"x" * 200_000 + b",train\n", "is no table in UTF-8"),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path, content, reason):
    path = tmp_path / "meta.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason):
        read_table(path, ("case", "split"))
