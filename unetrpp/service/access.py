"""Who may use the service: a token, loopback without one, and no pages of other sites in the user's browser."""

import hmac
import ipaddress
from pathlib import Path

from starlette.requests import Request

from unetrpp.core.errors import UserError
from unetrpp.service.refusals import Refusal

SHORTEST_TOKEN = 16  # characters


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("clinic.org")
    (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(file: Path | None, host: str) -> str | None:
    """The token, the only line of ``file``.

    Raises:
        UserError: the file cannot be read or holds no token, or there is none though others than this machine reach ``host``.
    """
    if file is None:
        if not is_loopback(host):
            raise UserError(
                f"--host {host} is reached by other machines, so requests need a token; add --token-file FILE, or leave --host out"
            )
        return None
    try:
        token = file.read_text(encoding="utf8").strip()
    except (OSError, UnicodeDecodeError):
        raise UserError(f"--token-file {file} cannot be read as text; write the token into it, on one line") from None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or len(token.split()) != 1:
        raise UserError(
            f"--token-file {file} must hold one line of at least {SHORTEST_TOKEN} letters, digits and signs, without spaces; "
            'write one with python -c "import secrets; print(secrets.token_urlsafe())"'
        )
    return token


def require_token(request: Request, token: str | None) -> None:
    """
    Raises:
        Refusal: 401, the service has a token and the request another or none.
    """
    if token is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        sentence = "the request has no valid token; add the header Authorization: Bearer TOKEN"
        raise Refusal(401, sentence, {"WWW-Authenticate": "Bearer"})


def require_own_page(request: Request, token: str | None) -> None:
    """Keep a page of another site, which the user's browser shows, from using the service.

    Without a token the names of this machine are the only ones: another site's name may lead to this machine, too.

    Raises:
        Refusal: 403, the request was sent by such a page, or to another name.
    """
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        raise Refusal(403, "the request was sent by a page of another site; use the service's own page, or a program")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if token is None and not is_loopback(name.strip("[]")):
        raise Refusal(403, "without a token the service answers on this machine alone; send the request to 127.0.0.1")
