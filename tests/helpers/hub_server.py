"""A server on 127.0.0.1 that speaks as much of the Hugging Face Hub's API as huggingface_hub needs for models."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
API = re.compile(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/([^/]+)")
LFS = re.compile(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch")


class Hub:
    """Repositories in memory, each a list of commits, and every request that came.

    Attributes:
        token: that every request must carry; None lets all in.
        fails: HTTP status that every request gets instead.
    """

    def __init__(self):
        self.repositories: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: dict[str, bool] = {}
        self.objects: dict[str, bytes] = {}  # of LFS, by SHA-256
        self.tags: dict[str, str] = {}
        self.token: str | None = None
        self.fails: int | None = None
        self.requests: list[str] = []
        self.address = ""

    def commit(self, repository: str, files: dict[str, bytes]) -> str:
        commits = self.repositories[repository]
        merged = (commits[-1][1] if commits else {}) | files
        oid = hashlib.sha1(repr((len(commits), sorted(files))).encode(), usedforsecurity=False).hexdigest()
        commits.append((oid, merged))
        return oid

    def find(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.repositories[repository]
        revision = self.tags.get(revision, revision)
        if revision == "main":
            return commits[-1] if commits else ("0" * 40, {})
        return next((commit for commit in commits if commit[0] == revision), None)


@contextmanager
def hub_server() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            whole = b""
            while size := int(self.rfile.readline(), 16):
                whole += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return whole

        def answer(self, content: object = b"", status: int = 200, **headers: str) -> None:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | headers).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def refused(self, authorised: bool = True) -> bool:
            hub.requests.append(f"{self.command} {self.path}")
            if hub.fails is not None:
                self.answer({"error": "no"}, hub.fails)
                return True
            if authorised and hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
                self.answer({"error": "unauthorised"}, 401, X_Error_Code="RepoNotFound")
                return True
            return False

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            if self.refused():
                return
            found = RESOLVE.fullmatch(unquote(self.path))
            if found is None or found[1] not in hub.repositories:
                self.answer(b"", 404, X_Error_Code="RepoNotFound")
                return
            commit = hub.find(found[1], found[2])
            if commit is None:
                self.answer(b"", 404, X_Error_Code="RevisionNotFound")
            elif found[3] not in commit[1]:
                self.answer(b"", 404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit[0])
            else:
                content = commit[1][found[3]]
                etag = f'"{hashlib.sha256(content).hexdigest()}"'
                self.answer(content, ETag=etag, X_Repo_Commit=commit[0])

        def do_PUT(self):
            content = self.body()
            if not self.refused(authorised=False):
                hub.objects[hashlib.sha256(content).hexdigest()] = content
                self.answer()

        def do_POST(self):
            content = self.body()
            if self.refused():
                return
            if self.path == "/api/validate-yaml":
                self.answer({"errors": [], "warnings": []})
            elif self.path == "/api/repos/create":
                self.create(json.loads(content))
            elif found := LFS.fullmatch(self.path):
                self.answer({"transfer": "basic", "objects": [self.lfs(o) for o in json.loads(content)["objects"]]})
            elif (found := API.match(self.path)) and found[1] in hub.repositories:
                self.preupload(content) if found[2] == "preupload" else self.commit(found[1], content)
            else:
                self.answer({"error": "not found"}, 404, X_Error_Code="RepoNotFound")

        def create(self, wanted):
            name = f"{wanted['organization']}/{wanted['name']}"
            address = {"url": f"{hub.address}/{name}", "name": name}
            if name in hub.repositories:
                self.answer(address, 409)
                return
            hub.repositories[name] = []
            hub.private[name] = wanted.get("visibility") == "private" or wanted.get("private") is True
            self.answer(address)

        def lfs(self, wanted):
            actions = {"upload": {"href": f"{hub.address}/objects/{wanted['oid']}"}}
            return wanted | {"actions": actions}

        def preupload(self, content):
            files = [file["path"] for file in json.loads(content)["files"]]
            modes = [{"path": p, "uploadMode": "lfs" if p.endswith(".zip") else "regular"} for p in files]
            self.answer({"files": [mode | {"shouldIgnore": False} for mode in modes]})

        def commit(self, repository, content):
            files = {}
            for line in content.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "lfsFile":
                    files[value["path"]] = hub.objects[value["oid"]]
            oid = hub.commit(repository, files)
            self.answer({"success": True, "commitOid": oid, "commitUrl": f"{hub.address}/{repository}/commit/{oid}"})

    return Handler
