"""Digests: short hashes of inputs, recorded with what was derived from them, so that a change of the inputs is noticed."""

import hashlib
from pathlib import Path
from typing import ClassVar, TypeVar

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json


class Derived(Record, frozen=True, kw_only=True):
    """Base of the records that are computed from other files: ``made_from`` is the :func:`digest` of all that they depend on."""

    later_fields: ClassVar[frozenset[str]] = frozenset({"made_from"})
    made_from: str = ""  # release 0.1.0 did not write it, so its derived records count as stale


D = TypeVar("D", bound=Derived)


def read_current(path: Path, kind: type[D], made_from: str) -> D | None:
    """The record at ``path`` where it was made from exactly these inputs; None where it has to be made again.

    This is the one rule of staleness: a derived file counts as long as the digest of its inputs is the same. One that is
    missing, unreadable or written by a release with other fields is stale, too.
    """
    try:
        found = read_json(path, kind)
    except UserError:
        return None
    return found if found.made_from == made_from else None


def digest(*parts: object) -> str:
    """16 hexadecimal digits of SHA-256 over ``parts`` in order: bytes and memory as they are, everything else as JSON.

    Fields that were added to a record after its first release (``Record.later_fields``) count only where they differ from their
    default, so that a new field does not make older files out of date.

    >>> digest(b"a", b"b") == digest(b"ab"), digest({"a": 1}) == digest(b'{"a":1}')
    (True, True)
    """
    total = hashlib.sha256()
    for part in parts:
        total.update(
            part if isinstance(part, bytes | memoryview) else msgspec.json.encode(_without_later_defaults(part))
        )
    return total.hexdigest()[:16]


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file's content, read in pieces: 32 bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _without_later_defaults(value: object) -> object:
    """Records as dicts in the order of their fields, dicts in the order of their keys, recursively."""
    if isinstance(value, msgspec.Struct):
        later = value.later_fields if isinstance(value, Record) else frozenset[str]()
        return {
            field.encode_name: _without_later_defaults(getattr(value, field.name))
            for field in msgspec.structs.fields(value)
            if field.name not in later or getattr(value, field.name) != _default(field)
        }
    if isinstance(value, dict):
        return {key: _without_later_defaults(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_without_later_defaults(item) for item in value]
    return value


def _default(field: msgspec.structs.FieldInfo) -> object:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
