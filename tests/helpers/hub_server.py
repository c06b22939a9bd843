"""A loopback server that speaks the Hub's protocol as far as the real `huggingface_hub` client needs it for models and Spaces.

Like the Hub it answers 401 for a missing or private repository without a token and 404 for a missing one with it, serves the
metadata of a gated repository to everybody, and refuses every request with a wrong token. Unlike the Hub it never redirects.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import yaml

FRONT_MATTER = re.compile(r"\A\s*---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
VERBS = "resolve|revision|tree|paths-info|refs|preupload|commit|tag|branch|batch|verify"
OTHERS = ("datasets/", "spaces/")  # what the ids of repositories begin with that are no models
PLACE = f"/((?:{'|'.join(OTHERS)})?[^/]+(?:/[^/]+)??)"  # of a repository: NAME or NAMESPACE/NAME, after datasets/ or spaces/
PATH = re.compile(
    rf"(?:/api/models|/api(?=/(?:{'|'.join(OTHERS)})))?{PLACE}(?:(?:\.git/info/lfs/objects)?/({VERBS})(?:/([^/]+)(?:/(.+))?)?)?"
)


def is_lfs(path: str, size: int) -> bool:
    return path.endswith(".safetensors") or size > 1_000_000


def blob_sha(data: bytes) -> str:
    """The hash git gives a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def front_matter(readme: bytes) -> dict[str, Any]:
    match = FRONT_MATTER.match(readme.decode(errors="replace"))
    return (match and yaml.safe_load(match[1])) or {}


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder, as a repository holds them."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def tree(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Folders and files by path, as the recursive tree lists them."""
    folders = {path[:at] for path in files for at, letter in enumerate(path) if letter == "/"}
    entries = {path: {"type": "directory", "oid": blob_sha(path.encode()), "size": 0, "path": path} for path in folders}
    for path, data in files.items():
        entries[path] = {"type": "file", "oid": blob_sha(data), "size": len(data), "path": path}
        if is_lfs(path, len(data)):
            sha256 = hashlib.sha256(data).hexdigest()
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(data)}\n".encode()
            lfs = {"oid": sha256, "sha256": sha256, "size": len(data), "pointerSize": len(pointer)}
            entries[path] |= {"oid": blob_sha(pointer), "lfs": lfs}
    return dict(sorted(entries.items()))


class Refusal(Exception):
    """An error, in the Hub's headers and body."""

    def __init__(self, status: int, message: str, code: str = "", commit: str = "", **more: Any) -> None:
        headers = {"X-Error-Message": message, "X-Error-Code": code, "X-Repo-Commit": commit}
        self.reply = status, {"error": message, **more}, {name: value for name, value in headers.items() if value}


@dataclass
class Repo:
    """`commits`: hash to files; `refs`: main, then tags and pull requests, to hash; `granted`: the user may read a gated one."""

    id: str
    private: bool = False
    gated: bool = False
    granted: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def at(self, revision: str) -> tuple[str, dict[str, bytes]]:
        """Hash and files of main, a tag or a hash."""
        sha = self.refs.get(revision, revision)
        if sha not in self.commits:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha, self.commits[sha]

    def info(self, revision: str, blobs: bool = False) -> dict[str, Any]:
        """What /api/models tells, with sizes and hashes of files if `blobs`."""
        sha, files = self.at(revision)
        card = front_matter(files.get("README.md", b""))
        names: dict[str, Any] = {key: card[key] for key in ("library_name", "pipeline_tag", "sdk") if key in card}
        tags = [*names.values(), *card.get("tags", ()), *(f"license:{card[key]}" for key in card if key == "license")]
        entries = tree(files) if blobs else {path: {"oid": None} for path in files}
        siblings = [{**entries[path], "rfilename": path, "blobId": entries[path]["oid"]} for path in sorted(files)]
        name = self.id.removeprefix(OTHERS[0]).removeprefix(OTHERS[1])
        info = {"id": name, "modelId": name, "author": name.split("/")[0], **names, "tags": tags, "sha": sha}
        return info | {"private": self.private, "gated": self.gated and "auto", "cardData": card, "siblings": siblings}


class HubServer:
    """The server, its repositories and its faults; a context manager that serves at `url` while it is open.

    `requests` records (method, path with query) and `ranges` (path, Range header) of what came in. Faults: `fail_next` requests
    get 503, every answer waits `delay` seconds, the next file GET with a longer body ends after `cut_after` bytes, and the next
    `corrupt` file GETs have one byte flipped. `token` reads all and writes to `namespaces`.
    """

    def __init__(self, user: str = "tester", token: str = "hf_tester") -> None:
        self.user, self.token, self.namespaces = user, token, {user}
        self.repos = dict[str, Repo]()
        self.objects = dict[str, bytes]()  # uploaded LFS files by SHA-256
        self.requests, self.ranges = list[tuple[str, str]](), list[tuple[str, str]]()
        self.fail_next, self.delay, self.corrupt = 0, 0.0, 0
        self.cut_after: int | None = None
        self.lock = threading.Lock()

    def __enter__(self) -> HubServer:
        handler = type("Handler", (_Handler,), {"hub": self, "log_message": lambda *_: None})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reset(self) -> None:
        """Forget the recorded requests."""
        self.requests, self.ranges = [], []

    def add_repo(self, repo_id: str, files: Mapping[str, bytes], private: bool = False, gated: bool = False) -> str:
        """Add a repository with one commit; returns its hash. An id of a dataset begins with datasets/, of a Space spaces/."""
        self.repos[repo_id] = Repo(repo_id, private, gated)
        return self.add_commit(repo_id, files)

    def add_commit(
        self, repo_id: str, files: Mapping[str, bytes], deleted: Collection[str] = (), ref: str = "main"
    ) -> str:
        """Commit on top of main or a pull request, which begins at main; returns the hash."""
        repo = self.repos[repo_id]
        kept = repo.at(ref if ref in repo.refs else "main")[1] if repo.commits else {}
        content = {path: data for path, data in kept.items() if path not in deleted} | dict(files)
        hashes = {path: blob_sha(data) for path, data in content.items()}
        sha = blob_sha(repr((repo_id, len(repo.commits), hashes)).encode())
        repo.commits[sha], repo.refs[ref] = content, sha
        return sha

    def tag(self, repo_id: str, name: str, sha: str) -> None:
        self.repos[repo_id].refs[name] = sha


class _Handler(BaseHTTPRequestHandler):
    """Answers one request per connection (HTTP/1.0), so that a stopped server does not go on answering on them."""

    hub: HubServer

    def answer(self) -> None:
        hub, split = self.hub, urlsplit(self.path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))  # the client sends it even if refused
        self.query = {key: value for key, value in parse_qsl(split.query) if value != "false"}
        self.known = self.headers.get("Authorization") == f"Bearer {hub.token}"
        hub.requests.append((self.command, self.path))
        hub.ranges.extend((self.path, value) for value in self.headers.get_all("Range", ()))
        time.sleep(hub.delay)
        try:
            with hub.lock:
                reply = self.route(split.path)
        except (Refusal, yaml.YAMLError) as error:
            reply = getattr(error, "reply", (400, {"errors": [{"message": str(error)}]}, {}))
        status, body, headers = reply if isinstance(reply, tuple) else (200, reply, {})
        body = body if isinstance(body, bytes) else json.dumps(body, default=str).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name, str(value))
        with suppress(ConnectionError):  # a client that did not wait
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

    do_HEAD = do_GET = do_POST = do_PUT = do_DELETE = answer

    def route(self, path: str) -> Any:
        """What to send: a body, or (status, body, headers)."""
        hub = self.hub
        if hub.fail_next > 0:
            hub.fail_next -= 1
            raise Refusal(503, "Service Unavailable")
        if "Authorization" in self.headers and not self.known:
            raise Refusal(401, "Invalid credentials in Authorization header")
        match (self.command, path):
            case ("GET", "/api/models"):
                wanted = {self.query[key] for key in ("filter", "pipeline_tag", "author") if key in self.query}
                hidden = {"siblings", "cardData"} - {"siblings" if key == "full" else key for key in self.query}
                models = [repo for repo in hub.repos.values() if not repo.id.startswith(OTHERS)]
                shown = [repo.info("main") for repo in models if self.known or not repo.private]
                shown = [it for it in shown if self.query.get("search", "").lower() in it["id"].lower()]
                shown = [it for it in shown if wanted <= {it["author"], *it["tags"]}]
                return [{key: it[key] for key in it.keys() - hidden} for it in shown]
            case ("GET", "/api/whoami-v2") if self.known:
                return {"type": "user", "name": hub.user, "fullname": hub.user, "orgs": [], "auth": {}}
            case ("POST", "/api/repos/create") | ("DELETE", "/api/repos/delete") if self.known:
                return self.create_or_delete(json.loads(self.body))
            case ("POST", "/api/validate-yaml"):
                card = front_matter(json.loads(self.body)["content"].encode())
                return {"warnings": [] if card else [{"message": "empty or missing yaml metadata in repo card"}]}
            case ("PUT", _) if path == f"/lfs/{hashlib.sha256(self.body).hexdigest()}":
                return hub.objects.setdefault(path.removeprefix("/lfs/"), self.body) and {}
        parts = PATH.fullmatch(path)
        return self.in_repo(*(part and unquote(part) for part in parts.groups())) if parts else self.repo(path)

    def repo(self, repo_id: str, write: bool = False) -> Repo:
        repo = self.hub.repos.get(repo_id)
        if repo is None or (not self.known and (repo.private or write)):
            raise Refusal(404 if self.known else 401, "Repository not found", "RepoNotFound")
        if write and not self.hub.namespaces.intersection(repo_id.split("/")[:-1]):
            raise Refusal(403, "Forbidden: you may not write to this repository")
        return repo

    def in_repo(self, repo_id: str, verb: str | None, revision: str | None, path: str | None) -> Any:
        repo = self.repo(repo_id, write=self.command == "POST" and verb != "paths-info")
        sha, files = repo.at("main" if verb == "branch" else revision or "main")
        sent = json.loads(self.body) if self.command == "POST" and verb not in ("paths-info", "commit") else {}
        match (self.command, verb):
            case ("HEAD" | "GET", "resolve"):
                return self.file(repo, sha, files, str(path))
            case ("GET", None | "revision"):
                return repo.info(sha, "blobs" in self.query)
            case ("GET", "refs"):
                named = {key: at for key, at in repo.refs.items() if not key.startswith("refs/")}
                tags = [{"name": key, "ref": f"refs/tags/{key}", "targetCommit": at} for key, at in named.items()]
                return {"branches": [tags.pop(0) | {"ref": "refs/heads/main"}], "tags": tags, "converts": []}
            case ("GET", "tree"):
                root, deep = f"{path}/" if path else "", "recursive" in self.query
                found = [entry for entry in tree(files).values() if entry["path"].startswith(root)]
                if root and not found:
                    raise Refusal(404, f"{path} does not exist on {revision}", "EntryNotFound")
                return [entry for entry in found if deep or "/" not in entry["path"].removeprefix(root)]
            case ("POST", "paths-info"):
                wanted = {path.strip("/") for path in parse_qs(self.body.decode()).get("paths", ())}
                return [entry for path, entry in tree(files).items() if path in wanted]
            case ("POST", "tag") if sent["tag"] not in repo.refs:
                return self.hub.tag(repo_id, sent["tag"], sha)
            case ("POST", "branch") if revision not in repo.refs:
                return self.hub.tag(repo_id, str(revision), sha)
            case ("POST", "batch"):
                for file in sent["objects"]:
                    links = {"upload": f"lfs/{file['oid']}", "verify": f"{repo_id}.git/info/lfs/objects/verify"}
                    if file["oid"] not in self.hub.objects:  # else there is nothing to do
                        file["actions"] = {name: {"href": f"{self.hub.url}/{link}"} for name, link in links.items()}
                return {"transfer": "basic", "objects": sent["objects"]}
            case ("POST", "verify") if sent["oid"] in self.hub.objects:
                return {}
            case ("POST", "preupload"):
                entries = tree(files)
                for file in sent["files"]:
                    there = entries.get(file["path"], {})
                    file["uploadMode"] = "lfs" if is_lfs(file["path"], file["size"]) else "regular"
                    file |= {"shouldIgnore": False, "oid": there.get("lfs", there).get("oid")}
                return sent
            case ("POST", "commit") if revision in repo.refs:
                requests = sum(key.startswith("refs/pr/") for key in repo.refs)
                ref = f"refs/pr/{requests + 1}" if "create_pr" in self.query else str(revision)
                return self.commit(repo_id, files, ref)
        raise Refusal(409 if verb == "tag" else 400, "This cannot be done, or has been done before")

    def file(self, repo: Repo, sha: str, files: dict[str, bytes], path: str) -> Any:
        if repo.gated and not (self.known and repo.granted):
            raise Refusal(403 if self.known else 401, f"Access to model {repo.id} is restricted.", "GatedRepo")
        if path not in files:
            raise Refusal(404, "Entry not found", "EntryNotFound", sha)
        data, entry = files[path], tree({path: files[path]})[path]
        size, status, etag = len(data), 200, f'"{entry.get("lfs", entry)["oid"]}"'
        headers = {"X-Repo-Commit": sha, "ETag": etag, "Accept-Ranges": "bytes"}
        headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(size)} if "lfs" in entry else {}
        if self.command == "HEAD":
            return status, data, headers
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(match[1]), min(int(match[2] or size), size - 1)
            status, data = (206, data[first : last + 1]) if first < size else (416, b"")
            headers["Content-Range"] = f"bytes {first}-{last}/{size}" if data else f"bytes */{size}"
        if self.hub.corrupt and data:
            self.hub.corrupt, data = self.hub.corrupt - 1, bytes([data[0] ^ 1]) + data[1:]
        if self.hub.cut_after is not None and self.hub.cut_after < len(data):
            headers["Content-Length"], data, self.hub.cut_after = str(len(data)), data[: self.hub.cut_after], None
        return status, data, headers

    def commit(self, repo_id: str, there: dict[str, bytes], ref: str) -> Any:
        files, deleted = dict[str, bytes](), list[str]()
        for item in map(json.loads, self.body.splitlines()):
            value, path = item["value"], item["value"].get("path", "").rstrip("/")
            match item["key"]:
                case "file":
                    files[path] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[path] = self.hub.objects[value["oid"]]
                case "deletedFile" | "deletedFolder":
                    deleted += [file for file in there if file == path or file.startswith(f"{path}/")]
        sha, address = self.hub.add_commit(repo_id, files, deleted, ref), f"{self.hub.url}/{repo_id}"
        request = {"pullRequestUrl": f"{address}/discussions/{ref.split('/')[-1]}"} if "create_pr" in self.query else {}
        return {"success": True, "commitOid": sha, "commitUrl": f"{address}/commit/{sha}", **request}

    def create_or_delete(self, sent: dict[str, Any]) -> Any:
        hub, owner = self.hub, sent.get("organization") or self.hub.user
        kind = sent.get("type", "model")
        place = "" if kind == "model" else f"{kind}s/"
        repo_id = f"{place}{owner}/{sent['name']}"
        if self.command == "DELETE":
            return hub.repos.pop(self.repo(repo_id, write=True).id) and {}
        if owner not in hub.namespaces or place not in ("", *OTHERS):
            raise Refusal(403, f"You don't have the rights to create this under the namespace {owner}")
        if repo_id in hub.repos:
            raise Refusal(409, f"You already created this {kind} repo", url=f"{hub.url}/{repo_id}")
        if kind == "space" and "sdk" not in sent:
            raise Refusal(400, "The SDK of a Space must be given")
        hub.add_repo(repo_id, {".gitattributes": b"*.safetensors filter=lfs\n"}, sent.get("visibility") == "private")
        return {"name": repo_id, "url": f"{hub.url}/{repo_id}"}
