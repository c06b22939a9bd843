"""A loopback server that speaks enough of the Hub's protocol for the real `huggingface_hub` client; model repositories only.

Like the Hub, it answers 401 for a missing or private repository without a token and 404 for a missing one with it, serves the
metadata of a gated repository to everybody, and refuses every request with a wrong token. Unlike the Hub, it never redirects.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LFS_SIZE = 1_000_000  # larger files are LFS files, and so is every .safetensors file
FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"  # the file of a repository that the API creates


@dataclass
class Commit:
    """The whole tree after one commit."""

    sha: str
    files: dict[str, bytes]
    title: str
    date: str

    def entry(self, path: str) -> dict[str, Any]:
        """A file as the tree lists it."""
        data = self.files[path]
        if not is_lfs(path, len(data)):
            return {"type": "file", "oid": blob_sha(data), "size": len(data), "path": path}
        sha256 = hashlib.sha256(data).hexdigest()
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(data)}\n".encode()
        lfs = {"oid": sha256, "size": len(data), "pointerSize": len(pointer)}
        return {"type": "file", "oid": blob_sha(pointer), "size": len(data), "path": path, "lfs": lfs}

    def entries(self) -> list[dict[str, Any]]:
        """Folders and files as the recursive tree lists them."""
        folders = {path[:at] for path in self.files for at in range(len(path)) if path[at] == "/"}
        listed = [
            {"type": "directory", "oid": blob_sha(f"{self.sha}/{folder}".encode()), "size": 0, "path": folder}
            for folder in sorted(folders)
        ]
        return listed + [self.entry(path) for path in sorted(self.files)]

    def card(self) -> dict[str, Any]:
        """The front matter of the README; empty where there is none."""
        match = FRONT_MATTER.match(self.files.get("README.md", b"").decode())
        return (match and yaml.safe_load(match[1])) or {}


@dataclass
class Repo:
    """A repository; `granted` says whether the token's user has been let into a gated one."""

    id: str
    private: bool = False
    gated: bool = False
    granted: bool = False
    commits: list[Commit] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> Commit | None:
        """The commit of a branch, tag or hash."""
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        return next((commit for commit in self.commits if commit.sha == sha), None)


@dataclass
class Reply:
    """What goes back: `body` is bytes, or anything that JSON can hold; only `cut` bytes of it are sent where that is set."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


class Refusal(Exception):
    """A request that is answered with an error, in the Hub's headers and body."""

    def __init__(self, status: int, message: str, code: str = "", **headers: str) -> None:
        super().__init__(message)
        errors = {"X-Error-Code": code, "X-Error-Message": message} if code else {"X-Error-Message": message}
        self.reply = Reply({"error": message}, status, errors | {k.replace("_", "-"): v for k, v in headers.items()})


def is_lfs(path: str, size: int) -> bool:
    return path.endswith(".safetensors") or size > LFS_SIZE


def blob_sha(data: bytes) -> str:
    """The hash git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class HubServer:
    """The server, its repositories and its faults; a context manager that serves at `url` while it is open.

    `requests` records (method, path with query) and `ranges` (path, Range header) of what came in. Faults: `fail_next` requests
    get 503, every answer waits `delay` seconds, the next file GET with a longer body ends after `cut_after` bytes, and the next
    file GET has one byte flipped if `corrupt`; the last two happen once. `namespaces` are those that `token` may write to.
    """

    user = "tester"

    def __init__(self, token: str = "hf_tester") -> None:
        self.token = token
        self.url = ""
        self.namespaces = {self.user}
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}  # uploaded LFS files by SHA-256
        self.requests: list[tuple[str, str]] = []
        self.ranges: list[tuple[str, str]] = []
        self.fail_next = 0
        self.delay = 0.0
        self.cut_after: int | None = None
        self.corrupt = False
        self.lock = threading.RLock()

    def __enter__(self) -> HubServer:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reset(self) -> None:
        """Forget the recorded requests."""
        self.requests.clear()
        self.ranges.clear()

    def add_repo(self, repo_id: str, files: Mapping[str, bytes], private: bool = False, gated: bool = False) -> str:
        """Add a repository with one commit; returns its hash."""
        with self.lock:
            self.repos[repo_id] = Repo(repo_id, private, gated)
            return self.add_commit(repo_id, files, title="initial commit")

    def add_commit(
        self,
        repo_id: str,
        files: Mapping[str, bytes],
        deleted: Iterable[str] = (),
        branch: str = "main",
        title: str = "commit",
    ) -> str:
        """Commit on top of a branch; returns the hash."""
        with self.lock:
            repo = self.repos[repo_id]
            parent = repo.at(branch)
            gone = set(deleted)
            tree = {path: data for path, data in (parent.files if parent else {}).items() if path not in gone} | dict(
                files
            )
            content = sorted((path, hashlib.sha256(data).hexdigest()) for path, data in tree.items())
            sha = hashlib.sha1(repr((repo_id, len(repo.commits), content)).encode()).hexdigest()
            date = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            repo.commits.append(Commit(sha, tree, title, date))
            repo.branches[branch] = sha
            return sha

    def tag(self, repo_id: str, name: str, sha: str) -> None:
        self.repos[repo_id].tags[name] = sha


class _Server(ThreadingHTTPServer):
    hub: HubServer
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    """Answers one request; a route is a method that takes the groups of its pattern and returns what to send."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        hub = self.hub = self.server.hub
        split = urlsplit(self.path)
        self.body = self.read_body()  # before any refusal, or the client could not finish sending
        self.query = {key: values for key, values in parse_qs(split.query).items()}
        hub.requests.append((self.command, self.path))
        if "Range" in self.headers:
            hub.ranges.append((self.path, self.headers["Range"]))
        time.sleep(hub.delay)
        try:
            with hub.lock:
                if hub.fail_next > 0:
                    hub.fail_next -= 1
                    raise Refusal(503, "Service Unavailable")
                reply = self.route(split.path)
        except Refusal as refusal:
            reply = refusal.reply
        if not isinstance(reply, Reply):
            reply = Reply(reply)
        self.send(reply)

    do_HEAD = do_GET = do_POST = do_PUT = do_DELETE = answer

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def send(self, reply: Reply) -> None:
        headers = dict(reply.headers)
        body = reply.body
        if not isinstance(body, bytes):
            body = json.dumps(body, default=str).encode()
            headers.setdefault("Content-Type", "application/json; charset=utf-8")
        # Connections are not kept, so that a stopped server cannot go on answering on those in the client's pool.
        headers |= {"Content-Length": str(len(body)), "Connection": "close"}
        try:
            self.send_response(reply.status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: reply.cut])
        except ConnectionError:  # the client is gone
            pass

    def route(self, path: str) -> Any:
        """Find the route of a path and answer it."""
        if (token := self.headers.get("Authorization", "").removeprefix("Bearer ")) and token != self.hub.token:
            raise Refusal(401, "Invalid credentials in Authorization header")
        self.known = bool(token)
        for method, pattern, name in ROUTES:
            if (match := re.fullmatch(pattern, path)) and self.command in method.split():
                return getattr(self, name)(*match.groups())
        raise Refusal(404, f"no route for {self.command} {path}")

    def repo(self, repo_id: str) -> Repo:
        """A repository that may be seen, or the Hub's refusal."""
        found = self.hub.repos.get(repo_id)
        if found is None or (found.private and not self.known):
            status = 404 if self.known else 401
            raise Refusal(status, "Repository not found", "RepoNotFound")
        return found

    def commit_of(self, repo_id: str, revision: str) -> Commit:
        found = self.repo(repo_id).at(unquote(revision))
        if found is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    def resolve(self, repo_id: str, revision: str, path: str) -> Reply:
        repo, commit, path = self.repo(repo_id), self.commit_of(repo_id, revision), unquote(path)
        if repo.gated and not (self.known and repo.granted):
            raise Refusal(403 if self.known else 401, "Access to this model is restricted", "GatedRepo")
        headers = {"X-Repo-Commit": commit.sha}
        if path not in commit.files:
            raise Refusal(404, "Entry not found", "EntryNotFound", **{"X_Repo_Commit": commit.sha})
        entry, data = commit.entry(path), commit.files[path]
        headers["ETag"] = f'"{entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]}"'
        if "lfs" in entry:
            headers |= {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(data))}
        if self.command == "HEAD":
            return Reply(data, 200, headers)
        if self.hub.corrupt:
            self.hub.corrupt, middle = False, len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        status, asked = 200, re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            first, last = int(asked[1]), int(asked[2] or len(data) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data, status = data[first : last + 1], 206
        cut = self.hub.cut_after
        if cut is not None and len(data) > cut:
            self.hub.cut_after = None
            return Reply(data, status, headers, cut)
        return Reply(data, status, headers)

    def models(self) -> Any:
        author = self.query.get("author", [""])[0]
        shown = [r for r in self.hub.repos.values() if self.known or not r.private]
        return [self.info(r, r.at("main")) for r in shown if r.id.startswith(f"{author}/") or not author]

    def info(self, repo: Repo, commit: Commit | None) -> dict[str, Any]:
        files = commit.entries() if commit else []
        siblings = [
            {"rfilename": f["path"], "size": f["size"], "blobId": f["oid"]}
            | ({"lfs": {"sha256": f["lfs"]["oid"], "size": f["size"], "pointerSize": 134}} if "lfs" in f else {})
            for f in files
            if f["type"] == "file"
        ]
        card = commit.card() if commit else {}
        index = {"model-index": card["model-index"]} if "model-index" in card else {}
        return {
            "id": repo.id,
            "modelId": repo.id,
            "sha": commit.sha if commit else None,
            "private": repo.private,
            "gated": repo.gated,
            "tags": [],
            "siblings": siblings,
            "cardData": card,
            **index,
        }

    def model(self, repo_id: str, revision: str | None = None) -> Any:
        return self.info(self.repo(repo_id), self.commit_of(repo_id, revision or "main"))

    def tree(self, repo_id: str, revision: str, folder: str | None = None) -> Any:
        entries = self.commit_of(repo_id, revision).entries()
        return [entry for entry in entries if not folder or entry["path"].startswith(folder + "/")]

    def paths_info(self, repo_id: str, revision: str) -> Any:
        commit = self.commit_of(repo_id, revision)
        try:
            wanted = json.loads(self.body)["paths"]
        except json.JSONDecodeError:
            wanted = parse_qs(self.body.decode())["paths"]
        return [commit.entry(path) for path in wanted if path in commit.files]

    def create(self) -> Any:
        asked = json.loads(self.body)
        repo_id = f"{asked.get('organization') or self.hub.user}/{asked['name']}"
        self.may_write(repo_id)
        if repo_id in self.hub.repos:
            raise Refusal(409, "You already created this model repo")
        private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.add_repo(repo_id, {".gitattributes": ATTRIBUTES}, private=bool(private))
        return {"url": f"{self.hub.url}/{repo_id}", "name": repo_id, "id": repo_id}

    def may_write(self, repo_id: str) -> None:
        if not self.known:
            raise Refusal(401, "Invalid username or password.")
        if repo_id.split("/")[0] not in self.hub.namespaces:
            raise Refusal(403, "You don't have the rights to create a model under this namespace")

    def validate_yaml(self) -> Any:
        return {"errors": [], "warnings": []}

    def preupload(self, repo_id: str, revision: str) -> Any:
        self.may_write(repo_id)
        files = json.loads(self.body)["files"]
        modes = [(f["path"], "lfs" if is_lfs(f["path"], f["size"]) else "regular") for f in files]
        return {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes]}

    def lfs_batch(self, repo_id: str) -> Any:
        self.may_write(repo_id)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            place = {"href": f"{self.hub.url}/lfs/{wanted['oid']}", "header": {}}
            absent = {} if wanted["oid"] in self.hub.objects else {"actions": {"upload": place, "verify": place}}
            objects.append(wanted | absent)
        return {"transfer": "basic", "objects": objects}

    def lfs(self, oid: str) -> Reply:
        if self.command == "PUT":
            if hashlib.sha256(self.body).hexdigest() != oid:
                raise Refusal(400, "hash mismatch")
            self.hub.objects[oid] = self.body
        return Reply(b"")

    def commit(self, repo_id: str, revision: str) -> Any:
        self.may_write(repo_id)
        added, deleted, title = {}, [], "commit"
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                title = value["summary"]
            elif entry["key"] == "file":
                added[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                added[value["path"]] = self.hub.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                deleted.append(value["path"])
        sha = self.hub.add_commit(repo_id, added, deleted, unquote(revision), title)
        return {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{repo_id}/commit/{sha}"}

    def whoami(self) -> Any:
        if not self.known:
            raise Refusal(401, "Invalid username or password.")
        token = {"accessToken": {"displayName": "test", "role": "write"}, "type": "access_token"}
        return {"type": "user", "name": self.hub.user, "orgs": [], "auth": token}


_ID = r"([\w.-]+/[\w.-]+)"
ROUTES = (
    ("GET HEAD", rf"/{_ID}/resolve/([^/]+)/(.+)", "resolve"),
    ("GET", r"/api/models", "models"),
    ("GET", rf"/api/models/{_ID}", "model"),
    ("GET", rf"/api/models/{_ID}/revision/([^/]+)", "model"),
    ("GET", rf"/api/models/{_ID}/tree/([^/]+)", "tree"),
    ("GET", rf"/api/models/{_ID}/tree/([^/]+)/(.+)", "tree"),
    ("POST", rf"/api/models/{_ID}/paths-info/([^/]+)", "paths_info"),
    ("POST", rf"/api/models/{_ID}/preupload/([^/]+)", "preupload"),
    ("POST", rf"/api/models/{_ID}/commit/([^/]+)", "commit"),
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("POST", rf"/{_ID}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT POST", r"/lfs/(\w+)", "lfs"),
    ("GET", r"/api/whoami-v2", "whoami"),
)
"""Methods, path pattern and the handler's method that answers."""
