"""Digests: short hashes of inputs, recorded with what was derived from them, so that a change of the inputs is noticed."""

import hashlib
from pathlib import Path

import msgspec

from unetrpp.core.files import Record


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
