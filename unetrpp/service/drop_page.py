"""The page to drop a file on. The answer's page, with the viewer, is shown inside it."""

from functools import cache
from importlib.resources import files

from unetrpp.report.page import render_page
from unetrpp.report.viewer import page_script, script_source


def drop_page(*, token: bool, largest: int) -> str:
    """The page; ``token``: it asks for one. ``largest``: bytes of an upload."""
    settings = {"largest": largest, "token": token}
    return render_page("serve.html", title="Segment an image", script=drop_script(), settings=settings)


def drop_policy() -> str:
    """The page's Content-Security-Policy, which holds for the page inside it as well: these two scripts, and requests to the
    service alone."""
    scripts = f"{script_source(drop_script())} {script_source(page_script())}"
    return (
        f"default-src 'none'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; script-src {scripts}; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )


@cache
def drop_script() -> str:
    """The page's own program."""
    return (files("unetrpp.report") / "templates" / "serve.js").read_text(encoding="utf8")
