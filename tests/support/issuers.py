"""An issuer of tokens with a real HTTP server, and callers of all kinds."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

_ALGORITHMS = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}


def private_key(algorithm: str) -> Any:
    if algorithm == "RS256":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1()) if algorithm == "ES256" else ed25519.Ed25519PrivateKey.generate()


def public_pem(key: Any) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


class Issuer:
    def __init__(self) -> None:
        self.keys: dict[str, tuple[str, Any]] = {}  # by id: algorithm and private key
        self.asked: list[str] = []  # paths
        self.down = False
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                body = json.dumps(issuer.answer(self.path)).encode()
                self.send_response(503 if issuer.down else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def answer(self, path: str) -> Any:
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        return {"keys": [self.jwk(id) for id in self.keys]}

    def jwk(self, id: str) -> dict[str, Any]:
        algorithm, key = self.keys[id]
        return json.loads(_ALGORITHMS[algorithm].to_jwk(key.public_key())) | {"kid": id, "use": "sig"}

    def new_key(self, id: str, algorithm: str = "ES256") -> None:
        self.keys[id] = (algorithm, private_key(algorithm))

    def claims(self, **other: Any) -> dict[str, Any]:
        now = int(time.time())
        usual = {"iss": self.url, "aud": "ouzel", "sub": "jane", "exp": now + 600, "iat": now, "nbf": now}
        every = usual | {"org": "acme", "roles": ["explain"]} | other
        return {name: value for name, value in every.items() if value is not None}

    def token(self, id: str, header: dict[str, Any] | None = None, **claims: Any) -> str:
        algorithm, key = self.keys[id]
        return jwt.encode(self.claims(**claims), key, algorithm, headers={"kid": id} | (header or {}))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def issuing(**algorithms: str) -> Iterator[Issuer]:
    issuer = Issuer()
    for id, algorithm in algorithms.items():
        issuer.new_key(id, algorithm)
    try:
        yield issuer
    finally:
        issuer.close()


def segment(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
