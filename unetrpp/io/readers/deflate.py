"""Inflating compressed voxels: no more than they take, up to the checksum that deflate's formats end with."""

import zlib
from pathlib import Path

import numpy as np

from unetrpp.core.large_arrays import new_array
from unetrpp.io.readers.content import damaged

CHUNK = 1 << 20
MOST_INFLATION = 1032  # by which deflate can at most expand a file
GZIP = b"\x1f\x8b"
ZLIB_OR_GZIP = 47  # zlib's code for either, by the first bytes


def inflate(file: Path, compressed: memoryview | bytes, needed: int) -> tuple[np.ndarray, bytes]:
    """The first ``needed`` bytes as an array, and what follows the end of the compressed data. Both are gone through in chunks.

    zlib and gzip compare their checksum and length at the end of each stream, which is therefore always reached.

    Raises:
        UserError: the data is damaged, ends too early, or holds less.
    """
    require_possible(file, len(compressed), needed)
    found = new_array((needed,), np.uint8)
    target, source = found.data, memoryview(compressed)
    done = 0
    start = 0  # of what was not given to a decoder yet, or of the next stream
    while start < len(source) and (not start or source[start : start + 2] == GZIP):
        decoder = zlib.decompressobj(ZLIB_OR_GZIP)
        try:
            while not decoder.eof:
                fed = decoder.unconsumed_tail or source[start : start + CHUNK]
                start += 0 if decoder.unconsumed_tail else len(fed)
                chunk = decoder.decompress(fed, CHUNK)
                kept = min(len(chunk), needed - done)
                target[done : done + kept] = chunk[:kept]
                done += kept
                if not chunk and not fed:
                    raise damaged(file, "the compressed data ends too early")
        except zlib.error as error:
            raise damaged(file, f"the compressed data or its checksum is wrong: {error}") from None
        start -= len(decoder.unused_data)
    if done < needed:
        raise damaged(file, f"it holds {done} of {needed} bytes")
    return found, bytes(source[start:])


def require_possible(file: Path, available: int, needed: int) -> None:
    """
    Raises:
        UserError: not even the best compression holds what a header claims.
    """
    if needed > MOST_INFLATION * max(available, 1):
        raise damaged(file, f"its header claims {needed} bytes, more than {available} compressed bytes can hold")
