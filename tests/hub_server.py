"""A stand-in for the hub's HTTP interface on loopback: makes repositories, takes commits, serves.

As far as huggingface_hub asks: create, preupload, LFS in one part, commit, and files of a commit.
"""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_for_this_test_only"
COMMIT = "a" * 40


class Hub(ThreadingHTTPServer):
    """`repos` is OWNER/NAME → file → bytes; `asked` all requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos, self.blobs, self.private, self.asked = {}, {}, {}, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, value=b"", status=200, **headers):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def do_POST(self):
        hub, sent, path = self.server, self.body(), self.path.partition("?")[0]
        hub.asked.append(("POST", path))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer({"error": "Invalid credentials"}, 401)
        if path == "/api/repos/create":
            asked = json.loads(sent)
            repo = f"{asked['organization']}/{asked['name']}"
            if asked["organization"] == "stranger":
                return self.answer({"error": "no write access"}, 403)
            is_there = repo in hub.repos
            hub.repos.setdefault(repo, {})
            hub.private.setdefault(repo, asked.get("visibility") == "private")
            return self.answer({"url": f"{hub.url}/{repo}"}, 409 if is_there else 200)
        if path == "/api/validate-yaml":  # of the card
            return self.answer({"errors": [], "warnings": []})
        if "/preupload/" in path:
            files = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(sent)["files"]
            ]
            return self.answer({"files": files})
        if path.endswith("/info/lfs/objects/batch"):
            asked = json.loads(sent)
            put = {"upload": {"href": f"{hub.url}/lfs", "header": {}}}
            objects = [{**one, "actions": put} for one in asked["objects"]]
            return self.answer({"transfer": "basic", "objects": objects})
        if "/commit/" in path:
            repo = hub.repos[path.removeprefix("/api/models/").partition("/commit/")[0]]
            for line in map(json.loads, sent.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    repo[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    repo[value["path"]] = hub.blobs[value["oid"]]
                elif line["key"] == "deletedFile":
                    del repo[value["path"]]
            name = path.removeprefix("/api/models/").partition("/commit/")[0]
            url = f"{hub.url}/{name}/commit/{COMMIT}"
            return self.answer({"success": True, "commitOid": COMMIT, "commitUrl": url})
        return self.answer({"error": path}, 404)

    def do_PUT(self):
        sent = self.body()
        self.server.blobs[hashlib.sha256(sent).hexdigest()] = sent
        self.answer()

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.server.asked.append((self.command, path))
        parts = path.removeprefix("/api/models").strip("/").split("/")
        repo, kind, name = "/".join(parts[:2]), parts[2:3], "/".join(parts[4:])
        files = self.server.repos.get(repo)
        if files is None:
            return self.answer(b"", 404, X_Error_Code="RepoNotFound")
        if kind == ["tree"]:  # there are no folders but the repository itself
            tree = [{"type": "file", "path": one, "size": 1, "oid": "0"} for one in files]
            if name:
                return self.answer(b"", 404, X_Error_Code="EntryNotFound")
            return self.answer(tree)
        if kind != ["resolve"]:
            siblings = [{"rfilename": one} for one in files]
            return self.answer({"id": repo, "sha": COMMIT, "siblings": siblings})
        if name not in files:
            return self.answer(b"", 404, X_Error_Code="EntryNotFound")
        content = files[name]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        return self.answer(content, ETag=etag, X_Repo_Commit=COMMIT)

    do_HEAD = do_GET


@contextmanager
def hub_server():
    """Serve meanwhile; yield the `Hub`."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
