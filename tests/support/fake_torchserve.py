"""A fake of TorchServe: the calls of its management API that Ouzel makes, and predictions. It loads nothing.

What a real one does is tested in tests/torchserve and tests/agent/test_nodes.py; here many can run in a second.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ouzel.model_file import archives
from ouzel.model_names import POOL, POOL_VERSION
from ouzel_protos.local import SERVING


class FakeTorchServe:
    """Serves archives of `store`, and is found through the state folder.

    Attributes:
        models: Digest of the weights by version, by name.
        defaults: By name.
        broken: Digests of weights that it does not load, and why.
        calls: Changes that it was asked for, as "METHOD PATH".
    """

    def __init__(self, store: Path, state: Path, *, pool: bool = False) -> None:
        self.store, self.state, self._pool = store, state, pool
        self.models: dict[str, dict[str, str]] = {}
        self.defaults: dict[str, str] = {}
        self.broken: dict[str, str] = {}
        self.calls: list[str] = []
        self._server: ThreadingHTTPServer | None = None
        self._runs = 0

    def start(self) -> None:
        """With nothing loaded, as after a crash."""
        self.models, self.defaults = {}, {}
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, answer = fake.answer(self.command, self.path, body)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815 - as http.server calls them

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{self._server.server_port}"
        self._runs += 1
        run = self.state / f"run-{self._runs}"
        run.mkdir(parents=True)
        (run / "keys.json").write_text(json.dumps({kind: {"key": "k"} for kind in ("management", "inference")}))
        record = {
            "pid": 1, "create_time": 1.0, "grpc": "", "rest": url, "management": url, "metrics": url,
            "key_file": str(run / "keys.json"), "model_store": str(self.store), "models": [],
        }  # fmt: skip
        (self.state / SERVING).write_text(json.dumps(record))

    def stop(self) -> None:
        """Without a word: its record stays."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        parts = urlsplit(path)
        words = [unquote(word) for word in parts.path.strip("/").split("/")]
        if words[0] == "predictions":
            return self._predict(*words[1:], request=json.loads(body))
        if method != "GET":
            self.calls.append(f"{method} {parts.path}")
        if method == "POST":
            return self._register({key: values[0] for key, values in parse_qs(parts.query).items()})
        if len(words) == 1:
            names = [*self.models, *([POOL] if self._pool else [])]
            return 200, {"models": [{"modelName": name} for name in names]}
        name, version = words[1], words[2] if len(words) > 2 else self.defaults.get(words[1], "")
        loaded = self.models.get(name, {})
        if name == POOL and self._pool:
            loaded = {POOL_VERSION: ""}
        if version != "all" and version not in loaded and not (name == POOL and self._pool):
            return 404, {"message": "not found"}
        if method == "DELETE":
            if version == self.defaults[name] and len(loaded) > 1:
                return 403, {"message": f"Cannot remove default version for model {name}"}
            del loaded[version]
            if not loaded:
                del self.models[name], self.defaults[name]
        elif method == "PUT" and words[-1] == "set-default":
            self.defaults[name] = version
        chosen = loaded if version == "all" else [each for each in loaded if each == version or name == POOL]
        return 200, [_described(name, each) for each in chosen]

    def _register(self, query: dict[str, str]) -> tuple[int, Any]:
        (file,) = archives([self.store / query["url"]])
        if file.digest in self.broken:
            return 500, {"message": self.broken[file.digest]}
        if file.version in self.models.get(file.name, {}):
            return 409, {"message": "conflict"}
        self.models.setdefault(file.name, {})[file.version] = file.digest
        self.defaults.setdefault(file.name, file.version)
        return 200, {"status": "ok"}

    def _predict(self, name: str, version: str = "", *, request: dict[str, Any]) -> tuple[int, Any]:
        if name == POOL:
            (file,) = archives([self.store / f"{request['model']}@{request['version']}.mar"])
            if file.digest in self.broken:
                return 503, {"message": self.broken[file.digest]}
            digest = file.digest
        else:
            digest = self.models[name][version or self.defaults[name]]
        answer = {"scores": [{"probability": 0.5}], "saliency": [{"maximum": 1.0}], "model": {"weights_digest": digest}}
        return 200, answer


def _described(name: str, version: str) -> dict[str, Any]:
    return {
        "modelName": name, "modelVersion": version, "minWorkers": 1, "batchSize": 8, "maxBatchDelay": 1,
        "responseTimeout": 120, "startupTimeout": 120, "workers": [{"status": "READY"}],
    }  # fmt: skip
