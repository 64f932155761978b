"""The service as an ASGI application: / is a page to drop a file on, /segment takes an image, /health says that it runs."""

import asyncio
import base64
import logging
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from unetrpp import __version__
from unetrpp.core.errors import UserError, in_words
from unetrpp.core.files import to_json
from unetrpp.core.text import format_shape
from unetrpp.service.access import require_own_page, require_token
from unetrpp.service.drop_page import drop_page, drop_policy
from unetrpp.service.line import Line
from unetrpp.service.refusals import Refusal
from unetrpp.service.segmenter import Segmenter, ServedSegmentation, Upload
from unetrpp.service.uploads import Body, receive_upload, too_large

LOG = logging.getLogger(__name__)
ANSWERS = ("json", "file", "page")
GONE = 499  # nobody sees it: the client closed the connection


@dataclass
class Service:
    """What the requests share.

    Args:
        segmenter: the loaded model.
        line: of the requests.
        folder: for the files of requests; each request has a folder of its own in it while it lasts.
        token: that requests must have; None: none.
    """

    segmenter: Segmenter
    line: Line
    folder: Path
    token: str | None = None
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))  # the networks use all cores

    def app(self) -> Starlette:
        """The application; where it ends, the image that is being computed is waited for."""

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            yield
            self.thread.shutdown()

        routes = [
            Route("/", self.index),
            Route("/health", self.health),
            Route("/segment", self.segment, methods=["POST"]),
        ]
        return Starlette(routes=routes, lifespan=lifespan)

    async def index(self, request: Request) -> Response:
        """The page to drop a file on; it holds nothing of the model, so that it needs no token."""
        headers = {
            "Content-Security-Policy": drop_policy(),
            "X-Frame-Options": "DENY",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        page = drop_page(token=self.token is not None, largest=self.segmenter.largest)
        return HTMLResponse(page, headers=headers)

    async def health(self, request: Request) -> Response:
        """Alive, and how long the line is."""
        about = {"status": "ok", "version": __version__, "present": self.line.present, "longest": self.line.longest}
        return JSONResponse(about)

    async def segment(self, request: Request) -> Response:
        """Segment the image of the request."""
        body = Body(request.receive, self.segmenter.largest)
        try:
            response = await self._segmented(Request(request.scope, body))
        except Refusal as refusal:
            LOG.info("refused with %d", refusal.status)  # the sentence may have the name of a file
            if body.received or "expect" not in request.headers:  # else the client waits for leave to send it
                await body.discard()
            response = refusal.response()
        except ClientDisconnect:
            response = Response(status_code=GONE)
        response.headers["Cache-Control"] = "no-store"
        return response

    async def _segmented(self, request: Request) -> Response:
        answer = self._checked(request)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # the system may have cleaned its temporary folder
        with self.line.place(), tempfile.TemporaryDirectory(dir=self.folder) as name:
            folder = Path(name)
            upload = await receive_upload(request, folder)
            async with self.line.turn():
                if await request.is_disconnected():
                    raise ClientDisconnect
                work = partial(self._computed, upload, folder, page=answer == "page")
                found = await asyncio.get_running_loop().run_in_executor(self.thread, work)
        if answer == "file":
            headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(found.name)}"}  # RFC 8187
            content = base64.b64decode(found.segmentation)
            return Response(content, headers=headers, media_type="application/octet-stream")
        return Response(to_json(found), media_type="application/json")

    def _checked(self, request: Request) -> str:
        """What is to be answered, by everything that can be checked before the image is received.

        Raises:
            Refusal: the request is not allowed, its image too large, or it asks for an unknown answer.
        """
        require_own_page(request, self.token)
        require_token(request, self.token)
        answer = request.query_params.get("answer", "json")
        if answer not in ANSWERS:
            raise Refusal(400, f"answer is {answer[:20]!r}; it must be one of {', '.join(ANSWERS)}")
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self.segmenter.largest:
            raise too_large(self.segmenter.largest)
        return answer

    def _computed(self, upload: Upload, folder: Path, *, page: bool) -> ServedSegmentation:
        """In the thread of the networks.

        Raises:
            Refusal: there is no segmentation, for whatever reason.
        """
        start = time.monotonic()
        try:
            found = self.segmenter(upload, folder, page=page)
        except UserError as error:
            raise Refusal(400, upload.in_users_words(str(error), folder)) from None
        except Refusal:
            raise
        except Exception as error:
            LOG.error("a request failed: %s", type(error).__name__, exc_info=LOG.isEnabledFor(logging.DEBUG))
            raise Refusal(500, upload.in_users_words(in_words(error), folder)) from None
        shape = format_shape(found.geometry.shape_zyx)
        LOG.info("segmented an image of %s voxels in %.1f s", shape, time.monotonic() - start)
        return found
