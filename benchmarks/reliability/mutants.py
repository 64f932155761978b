"""Damage to the bytes of a file, as copies, disks and programs cause it: each kind takes bytes and gives others."""

import re
from collections.abc import Callable

import numpy as np

NUMBER = re.compile(rb"\d+(?:\.\d+)?")
ABSURD = (b"0", b"-1", b"2", b"99999", b"99999999999", b"1e30", b"nan", b"0.001", b"x")
EXTREMES = (
    b"\xff\xff\xff\xff",  # -1, or the largest unsigned number
    b"\xff\xff\xff\x7f",  # the largest signed number; NaN
    b"\0\0\0\0",
    b"\0\0\0\x80",  # the smallest signed number
    b"\0\0\xc0\x7f",  # NaN
    b"\0\0\x80\x7f",  # infinity
    b"\xff\xff",
    b"\xff\x7f",
    b"\0\0",
    b"\x01\0\0\0",
)

Damage = Callable[[bytearray, int, np.random.Generator], bytearray]


def truncated(content: bytearray, _: int, rng: np.random.Generator) -> bytearray:
    return content[: rng.integers(0, len(content))]


def flipped(content: bytearray, _: int, rng: np.random.Generator) -> bytearray:
    """One to three wrong bits anywhere, thus also in the voxels."""
    for _ in range(rng.integers(1, 4)):
        content[rng.integers(0, len(content))] ^= 1 << int(rng.integers(0, 8))
    return content


def replaced(content: bytearray, header: int, rng: np.random.Generator) -> bytearray:
    """One or two bytes of the header by any others."""
    at, n = int(rng.integers(0, header)), int(rng.integers(1, 3))
    content[at : at + n] = rng.integers(0, 256, n, dtype=np.uint8).tobytes()
    return content


def extreme(content: bytearray, header: int, rng: np.random.Generator) -> bytearray:
    """A binary field of the header by one that is out of range."""
    value = EXTREMES[rng.integers(0, len(EXTREMES))]
    at = int(rng.integers(0, header)) // 2 * 2
    content[at : at + len(value)] = value
    return content


def swapped(content: bytearray, header: int, rng: np.random.Generator) -> bytearray:
    """A binary field of the header, or all words of the file, in the other byte order."""
    n = int(rng.choice((2, 4, 8)))
    if rng.random() < 0.2:
        whole = len(content) // n * n
        content[:whole] = np.frombuffer(bytes(content[:whole]), f"<u{n}").byteswap().tobytes()
        return content
    at = int(rng.integers(0, header)) // n * n
    content[at : at + n] = content[at : at + n][::-1]
    return content


def blanked(content: bytearray, _: int, rng: np.random.Generator) -> bytearray:
    """A stretch of zeros, as from a lost block of a disk."""
    at = int(rng.integers(0, len(content)))
    n = len(content[at : at + int(rng.integers(1, 512))])
    content[at : at + n] = bytes(n)
    return content


def misnumbered(content: bytearray, header: int, rng: np.random.Generator) -> bytearray:
    """A number that the header holds as text by an absurd one; some bytes are replaced where there is no such number."""
    numbers = list(NUMBER.finditer(content, 0, header))
    if not numbers:
        return replaced(content, header, rng)
    found = numbers[rng.integers(0, len(numbers))]
    value = ABSURD[rng.integers(0, len(ABSURD))]
    if rng.random() < 0.5:  # of the same length, so that binary formats stay in step
        value = value.ljust(len(found[0]))[: len(found[0])]
    content[found.start() : found.end()] = value
    return content


KINDS: tuple[Damage, ...] = (truncated, flipped, replaced, extreme, swapped, blanked, misnumbered)


def mutant(content: bytes, header: int, rng: np.random.Generator) -> tuple[str, bytes]:
    """The kind of damage, and a damaged copy; ``header`` is the number of bytes that describe the image."""
    kind = KINDS[rng.integers(0, len(KINDS))]
    return kind.__name__, bytes(kind(bytearray(content), min(header, len(content)), rng))
