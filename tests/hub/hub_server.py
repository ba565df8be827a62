"""A hub on this machine: the requests of huggingface_hub, with error codes and ranges."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

TOKEN = "hf_of_a_test"


class Request(NamedTuple):
    """The requests of a client."""

    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class Hub:
    """`repos`: repo -> revision -> file -> content; `gated` and `private` ones ask for the token.

    `cut`: the file whose next download breaks off in the middle.
    """

    repos: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    cut: str | None = None
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def downloads(self) -> list[Request]:
        """The requests that brought a file's content."""
        return [
            request for request in self.requests if request.method == "GET" and "/resolve/" in request.path
        ]

    def names(self) -> list[str]:
        """The files that were downloaded, without doubles."""
        return sorted({request.path.rpartition("/")[2] for request in self.downloads()})


def commit_of(revision: str) -> str:
    """The commit of a revision."""
    return revision if re.fullmatch("[0-9a-f]{40}", revision) else hashlib.sha1(revision.encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub does."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.hub.requests.append(Request(self.command, self.path, self.headers.get("Range"), token))
        path = self.path.partition("?")[0]
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            self.describe(match[1], match[2], match[3] or "main", token)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.give(match[1], match[2], match[3], token)
        else:
            self.fail(404, "EntryNotFound")

    def files_of(self, repo: str, revision: str, token: str | None) -> dict[str, bytes] | None:
        if repo not in self.hub.repos or (repo in self.hub.private and token != TOKEN):
            self.fail(401 if token is None else 404, "RepoNotFound")
        elif repo in self.hub.refused:
            self.fail(403, None)
        else:
            known = self.hub.repos[repo]
            for name, files in known.items():
                if revision in (name, commit_of(name)):
                    return files
            self.fail(404, "RevisionNotFound")
        return None

    def describe(self, repo: str, what: str | None, revision: str, token: str | None) -> None:
        files = self.files_of(repo, revision, token)
        if files is None:
            return
        siblings = [{"rfilename": name} for name in files]
        described: Any = {"id": repo, "sha": commit_of(revision), "siblings": siblings}
        if what == "tree":
            described = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in files.items()
            ]
        self.send(200, json.dumps(described).encode(), {"Content-Type": "application/json"})

    def give(self, repo: str, revision: str, name: str, token: str | None) -> None:
        files = self.files_of(repo, revision, token)
        if files is None:
            return
        if repo in self.hub.gated and token != TOKEN:
            self.fail(401 if token is None else 403, "GatedRepo")
        elif name not in files:
            self.fail(404, "EntryNotFound")
        else:
            content = files[name]
            headers = {
                "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                "X-Repo-Commit": commit_of(revision),
                "Accept-Ranges": "bytes",
            }
            offset = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            if offset:
                first = int(offset[1])
                headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
                self.send(206, content[first:], headers)
            else:
                self.send(200, content, headers, is_cut=name == self.hub.cut and self.command == "GET")

    def fail(self, status: int, code: str | None) -> None:
        self.send(status, b"", {"X-Error-Code": code, "X-Error-Message": code} if code else {})

    def send(self, status: int, content: bytes, headers: dict[str, str], *, is_cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if is_cut:
            self.hub.cut, self.close_connection = None, True
            content = content[: len(content) // 2]
        self.wfile.write(content)


@contextmanager
def serve() -> Iterator[Hub]:
    """Serve a hub on a free port of this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HandlerOfHub", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
