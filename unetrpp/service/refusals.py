"""Requests that get no segmentation: a status, one sentence as JSON, and headers."""

from collections.abc import Mapping

from starlette.responses import JSONResponse


class Refusal(Exception):
    """A request is answered with ``status`` and a sentence."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None):
        super().__init__(sentence)
        self.status = status
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        """What the client gets."""
        return JSONResponse({"error": str(self)}, self.status, self.headers)
