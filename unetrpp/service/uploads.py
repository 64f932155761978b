"""Receiving an image: the bytes of one file, or a form with one file for each channel. At most so many bytes, in so much time."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from python_multipart.exceptions import FormParserError  # by which Starlette reads forms
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive

from unetrpp.core.text import format_bytes
from unetrpp.io.formats import FILE_ENDINGS, ONE_FILE, ending_of, strip_ending
from unetrpp.service.refusals import Refusal
from unetrpp.service.segmenter import CASE, Upload

UPLOAD_S = 300.0  # for the whole upload, so that a client that stops sending does not keep its place
MOST_FILES = 16
PIECE = 1 << 20  # bytes
LONGEST_NAME = 100  # characters
HEADERS = (".hdr", *ONE_FILE)  # of voxels in another file
TAKEN = tuple(ending for ending in FILE_ENDINGS if ending not in (*HEADERS, ".zarr"))  # a Zarr is a folder


class Body:
    """The body of a request as it is received: of at most ``largest`` bytes.

    Attributes:
        ended: it was received to its end, or the client is gone.
    """

    def __init__(self, receive: Receive, largest: int):
        self._receive = receive
        self.largest = largest
        self.received = 0
        self.ended = False

    async def __call__(self) -> Message:
        """The next piece.

        Raises:
            Refusal: 413, with this piece the body is larger than allowed.
        """
        message = await self._receive()
        self.received += len(message.get("body", b""))
        self.ended = not message.get("more_body", False)
        if self.received > self.largest:
            raise too_large(self.largest)
        return message

    async def discard(self) -> None:
        """Receive and forget the rest: a client that is still sending when the connection closes does not see the answer."""
        self.largest = sys.maxsize
        with suppress(TimeoutError):
            async with asyncio.timeout(UPLOAD_S):
                while not self.ended:
                    await self()


def too_large(largest: int) -> Refusal:
    """Why a body of more than ``largest`` bytes is refused."""
    what = f"the upload has more than the {format_bytes(largest)} that this service takes"
    return Refusal(413, f"{what}; compress or crop the image, or start the service with a larger --largest-mb")


async def receive_upload(request: Request, folder: Path) -> Upload:
    """Write the image of a request into ``folder``.

    Raises:
        Refusal: 413, it is too large; 408, it takes too long; 400, there is no file in it, or one without a name or of no known
            format.
    """
    form = request.headers.get("content-type", "").startswith("multipart/form-data")
    try:
        async with asyncio.timeout(UPLOAD_S):
            return await (_from_form(request, folder) if form else _from_body(request, folder))
    except TimeoutError:
        raise Refusal(
            408, f"the upload took longer than {UPLOAD_S:g} s; send it again over a faster connection"
        ) from None


async def _from_form(request: Request, folder: Path) -> Upload:
    try:
        async with request.form(max_files=MOST_FILES, max_fields=MOST_FILES) as form:
            parts = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
            if not parts:
                raise Refusal(
                    400, "the form has no file; send one for each channel, in their order, as fields named file"
                )
            names = [safe_name(part.filename or "") for part in parts]
            files = [folder / f"{CASE}_{i:04d}{ending_of(Path(name))}" for i, name in enumerate(names)]
            for file, part in zip(files, parts, strict=True):
                await _write(file, _pieces_of(part))
            return Upload(files, names)
    except (HTTPException, FormParserError) as error:
        reason = getattr(error, "detail", str(error)).rstrip(".")
        raise Refusal(400, f"the form cannot be read ({reason}); send multipart/form-data") from None


async def _from_body(request: Request, folder: Path) -> Upload:
    given = request.query_params.get("name", "")
    if not given:
        raise Refusal(
            400, "the image has no name; send its bytes to segment?name=scan.nii.gz, or a form with the field file"
        )
    name = safe_name(given)
    file = folder / f"{CASE}_0000{ending_of(Path(name))}"
    if not await _write(file, request.stream()):
        raise Refusal(400, f"{name} is empty; send the bytes of the image as the body")
    return Upload([file], [name])


async def _pieces_of(part: UploadFile) -> AsyncIterator[bytes]:
    while piece := await part.read(PIECE):
        yield piece


async def _write(file: Path, pieces: AsyncIterator[bytes]) -> int:
    size = 0
    with file.open("wb") as target:
        async for piece in pieces:
            size += target.write(piece)
    return size


def safe_name(given: str) -> str:
    r"""The last part of a file's name, with letters, digits, points, dashes and underscores alone.

    >>> safe_name("../../my scan.nii.gz"), safe_name(r"C:\data\a.NRRD")
    ('my_scan.nii.gz', 'a.NRRD')

    Raises:
        Refusal: it has no ending of an image format that consists of one file.
    """
    last = re.split(r"[/\\]", given)[-1]
    stem, ending = strip_ending(last), ending_of(Path(last))
    shown = re.sub(r"[^\w.-]+", "_", last)[:LONGEST_NAME] or "a file without a name"
    if ending in HEADERS:
        raise Refusal(
            400, f"{shown} is a header with its voxels in another file; save the image as one file, such as .nii.gz"
        )
    if ending not in TAKEN:
        raise Refusal(400, f"{shown} has none of the supported endings ({', '.join(TAKEN)}); convert it")
    return (re.sub(r"[^\w.-]+", "_", stem)[:LONGEST_NAME] or CASE) + last[len(stem) :]
