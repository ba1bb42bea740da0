"""A stand-in for the Hugging Face Hub: the few answers that its library asks for, from memory, over real HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of-the-stand-in"


@dataclass
class Repository:
    """A model's repository: files by revision, and what the hub knows of it."""

    private: bool = False
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)  # that the hub says, where they are others

    def commit(self, branch: str, files: dict[str, bytes], message: str = "") -> str:
        said = json.dumps([len(self.commits), message, sorted(files)])
        number = hashlib.sha1(said.encode()).hexdigest()
        self.commits[number], self.branches[branch] = files, number
        self.messages.append(message)
        return number

    def find(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)


@dataclass
class Hub:
    """What the stand-in holds, and what it was asked for."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)  # large files, by SHA-256
    asked: list[str] = field(default_factory=list)
    fails: int = 0  # the status of every answer, where it is not 0
    before: Callable[[str], None] = lambda _: None  # is called with what is asked for
    licenses: tuple[str, ...] = ("apache-2.0", "mit")

    def add(self, name: str, files: dict[str, bytes], **more: Any) -> Repository:
        self.repositories[name] = found = Repository(**more)
        found.commit("main", files)
        return found


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        self.status, self.headers = status, {"X-Error-Code": code, "X-Error-Message": message}


@contextmanager
def hub_server() -> Iterator[Hub]:
    """The stand-in, at `url` as long as the block runs."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = unquote(urlsplit(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            hub.before(path)
            status, headers, content = 200, {}, b""
            try:
                if hub.fails:
                    raise Refusal(hub.fails, "", "it is broken")
                headers, content = respond(hub, self.command, path, self.path, body, self.headers.get("Authorization"))
            except Refusal as refusal:
                status, headers = refusal.status, {k: v for k, v in refusal.headers.items() if v}
                content = json.dumps({"errors": [{"message": refusal.headers["X-Error-Message"]}]}).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def respond(
    hub: Hub, verb: str, path: str, raw: str, body: bytes, authorization: str | None
) -> tuple[dict[str, str], bytes]:
    """The headers and the content of an answer. Raises `Refusal`."""
    token = authorization == f"Bearer {TOKEN}"
    if authorization and not token and not path.startswith("/objects/"):
        raise Refusal(401, "", "Invalid credentials in Authorization header")
    if path == "/api/repos/create":
        said = json.loads(body)
        name = f"{said['organization']}/{said['name']}"
        if said["organization"] != "anna":
            raise Refusal(403, "", f"You don't have the rights to create a model under the namespace {said['name']}")
        hidden = said.get("private", said.get("visibility") == "private")
        hub.add(name, {".gitattributes": b""}, private=hidden)
        return as_json({"url": f"{hub.url}/{name}"})
    if path == "/api/validate-yaml":
        license = re.search(r"^license: (.*)$", json.loads(body)["content"], re.MULTILINE)
        if license and license[1] not in hub.licenses:
            raise Refusal(400, "", f'"license" must be one of {", ".join(hub.licenses)}')
        return as_json({"errors": [], "warnings": []})
    if found := re.fullmatch(r"/objects/(.*)", path):
        hub.objects[found[1]] = body
        return {}, b""
    if found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
        objects = json.loads(body)["objects"]
        upload = [{**o, "actions": {"upload": {"href": f"{hub.url}/objects/{o['oid']}"}}} for o in objects]
        return as_json({"transfer": "basic", "objects": upload})
    if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|preupload|commit|branch|tree)/(.+))?", path):
        repository = allowed(hub, found[1], token)
        kind, revision = found[2] or "revision", found[3] or "main"
        if kind == "branch":
            repository.branches[revision] = repository.branches["main"]
            return as_json({})
        if (number := repository.find(revision)) is None:
            raise Refusal(404, "RevisionNotFound", "Invalid rev id")
        files = repository.commits[number]
        if kind == "preupload":
            asked = json.loads(body)["files"]
            modes = [
                {
                    "path": each["path"],
                    "uploadMode": "lfs" if each["path"].endswith((".safetensors", ".png")) else "regular",
                    "shouldIgnore": False,
                }
                for each in asked
            ]
            return as_json({"files": modes})
        if kind == "commit":
            return as_json(commit(hub, repository, found[1], revision, dict(files), body))
        siblings = [{"rfilename": k, "size": repository.sizes.get(k, len(v)), "blobId": "0"} for k, v in files.items()]
        if kind == "tree":
            return as_json([{"type": "file", "path": k, "size": len(v), "oid": "0"} for k, v in files.items()])
        facts = {"id": found[1], "modelId": found[1], "sha": number, "private": repository.private}
        return as_json({**facts, "siblings": siblings})
    if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+(?:/[^/]+)*?)/([^/]+)", path):
        repository = allowed(hub, found[1], token)
        if (number := repository.find(found[2])) is None:
            raise Refusal(404, "RevisionNotFound", "Invalid rev id")
        if (content := repository.commits[number].get(found[3])) is None:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        return {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": number}, content
    raise Refusal(404, "", f"the stand-in does not know {verb} {raw}")


def as_json(value: Any) -> tuple[dict[str, str], bytes]:
    return {"Content-Type": "application/json"}, json.dumps(value).encode()


def allowed(hub: Hub, name: str, token: bool) -> Repository:
    found = hub.repositories.get(name)
    if found is None or (found.private and not token):
        raise Refusal(404 if token else 401, "RepoNotFound", "Repository not found")
    if found.gated:
        raise Refusal(403, "GatedRepo", "Access to this model is restricted")
    return found


def commit(
    hub: Hub, repository: Repository, name: str, branch: str, files: dict[str, bytes], body: bytes
) -> dict[str, str]:
    message = ""
    for line in body.splitlines():
        said = json.loads(line)
        key, value = said["key"], said["value"]
        if key == "header":
            message = value["summary"]
        elif key == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            files[value["path"]] = hub.objects[value["oid"]]
        elif key == "deletedFile":
            del files[value["path"]]
    number = repository.commit(branch, files, message)
    return {"commitUrl": f"{hub.url}/{name}/commit/{number}", "commitOid": number, "success": "true"}
