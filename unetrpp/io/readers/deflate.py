"""Inflating compressed voxels: no more than they take, up to the checksum that deflate's formats end with."""

import zlib
from pathlib import Path

from unetrpp.io.readers.content import damaged

CHUNK = 1 << 20
MOST_INFLATION = 1032  # by which deflate can at most expand a file
GZIP = b"\x1f\x8b"
ZLIB_OR_GZIP = 47  # zlib's code for either, by the first bytes


def inflate(file: Path, compressed: bytes, needed: int) -> tuple[bytes, bytes]:
    """The first ``needed`` bytes, and what follows the end of the compressed data.

    zlib and gzip compare their checksum and length at the end of each stream, which is therefore always reached.

    Raises:
        UserError: the data is damaged, ends too early, or holds less.
    """
    require_possible(file, len(compressed), needed)
    found: list[bytes] = []
    missing, rest = needed, compressed
    while rest and (not found or rest.startswith(GZIP)):
        decoder = zlib.decompressobj(ZLIB_OR_GZIP)
        try:
            while not decoder.eof:
                chunk = decoder.decompress(rest, missing or CHUNK)
                if missing:
                    found.append(chunk)
                    missing -= len(chunk)
                rest = decoder.unconsumed_tail
                if not chunk and not rest and not decoder.eof:
                    raise damaged(file, "the compressed data ends too early")
        except zlib.error as error:
            raise damaged(file, f"the compressed data or its checksum is wrong: {error}") from None
        rest = decoder.unused_data
    if missing:
        raise damaged(file, f"it holds {needed - missing} of {needed} bytes")
    return found[0] if len(found) == 1 else b"".join(found), rest


def require_possible(file: Path, available: int, needed: int) -> None:
    """
    Raises:
        UserError: not even the best compression holds what a header claims.
    """
    if needed > MOST_INFLATION * max(available, 1):
        raise damaged(file, f"its header claims {needed} bytes, more than {available} compressed bytes can hold")
