"""Who may use the service: the token, other machines, and pages of other sites."""

import logging

import pytest

from tests.helpers.model import make_model, write_images
from tests.helpers.service import running, service_of
from unetrpp.core.errors import UserError
from unetrpp.service.access import read_token

TOKEN = "a-secret-of-the-clinic"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("access")
    write_images(folder / "images", 1)
    make_model(folder, folds=1)
    return folder


@pytest.fixture(scope="module")
def scan(place):
    return {"params": {"name": "scan.nii.gz"}, "content": (place / "images" / "case_0_0000.nii.gz").read_bytes()}


@pytest.fixture(scope="module")
def closed(place):
    """A service with a token."""
    with running(service_of(place / "unetrpp__3d_fullres", place / "closed", token=TOKEN)) as client:
        yield client


@pytest.fixture(scope="module")
def opened(place):
    """A service without one."""
    with running(service_of(place / "unetrpp__3d_fullres", place / "opened")) as client:
        yield client


@pytest.mark.parametrize("given", [None, "", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", "Bearer \xe9"])
def test_without_the_token_there_is_no_answer(closed, scan, given):
    headers = {} if given is None else {"Authorization": given.encode("latin1")}
    response = closed.post("/segment", headers=headers, **scan)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json() == {"error": "the request has no valid token; add the header Authorization: Bearer TOKEN"}


def test_with_the_token_there_is_and_no_log_has_it(closed, scan, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        assert closed.post("/segment", headers={"Authorization": f"Bearer {TOKEN}"}, **scan).status_code == 200
        assert closed.post("/segment", headers={"Authorization": "Bearer another"}, **scan).status_code == 401
    logged = "".join(
        record.getMessage() for record in caplog.records if record.name.startswith(("unetrpp", "uvicorn.error"))
    )
    assert "segmented an image of 12 x 24 x 24 voxels" in logged
    assert "refused with 401" in logged
    assert TOKEN not in logged + "".join(capfd.readouterr())
    assert "scan" not in logged  # the name of a file


def test_the_token_is_compared_in_constant_time(closed, scan, monkeypatch):
    compared = []

    def compare(given, token):
        compared.append((given, token))
        return True

    monkeypatch.setattr("unetrpp.service.access.hmac.compare_digest", compare)
    assert closed.post("/segment", headers={"Authorization": "Bearer another"}, **scan).status_code == 200
    assert compared == [(b"another", TOKEN.encode())]


def test_health_and_the_page_need_no_token_and_tell_nothing_of_the_model(closed):
    assert closed.get("/health").json().keys() == {"status", "version", "present", "longest"}
    page = closed.get("/").text
    assert 'id="token"' in page
    assert TOKEN not in page
    assert "balls" not in page
    assert "unetrpp__3d_fullres" not in page


def test_pages_of_other_sites_are_refused(opened, scan):
    response = opened.post("/segment", headers={"Origin": "https://evil.example"}, **scan)
    assert response.status_code == 403
    assert "a page of another site" in response.json()["error"]
    assert opened.post("/segment", headers={"Origin": str(opened.base_url).rstrip("/")}, **scan).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example"])
def test_names_of_other_sites_that_lead_here_are_refused(opened, closed, scan, host):
    assert opened.post("/segment", headers={"Host": host}, **scan).status_code == 403
    with_token = {"Host": host, "Authorization": f"Bearer {TOKEN}"}
    assert closed.post("/segment", headers=with_token, **scan).status_code == 200  # behind a proxy


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8765"])
def test_names_of_this_machine(opened, scan, host):
    assert opened.post("/segment", headers={"Host": host}, **scan).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "clinic.example"])
def test_other_machines_need_a_token(host):
    with pytest.raises(UserError, match="is reached by other machines, so requests need a token; add --token-file"):
        read_token(None, host)


def test_tokens_of_a_file(tmp_path):
    file = tmp_path / "token.txt"
    with pytest.raises(UserError, match="cannot be read as text"):
        read_token(file, "127.0.0.1")
    for content in ("short", "two words of a token", "", "ä" * 20):
        file.write_text(content, encoding="utf8")
        with pytest.raises(UserError, match="must hold one line of at least 16 letters, digits and signs"):
            read_token(file, "127.0.0.1")
    file.write_text(f"{TOKEN}\n")
    assert read_token(file, "0.0.0.0") == TOKEN
