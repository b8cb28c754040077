from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ouzel.errors import DataLoss, Unauthenticated, Unavailable
from ouzel.gateway.access import issuer_keys
from ouzel.gateway.access.tenants import Tenants
from ouzel.gateway.access.tenants_file import parse
from ouzel.gateway.access.tokens import Tokens
from support.issuers import Issuer, issuing, private_key, public_pem, segment


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def file(issuer: Issuer, more: str = "") -> Tenants:
    return parse(
        f"""
        [tenants.acme]
        models = ["bird*"]
        [tenants.other]
        [issuers.corp]
        url = "{issuer.url}"
        audience = "ouzel"
        algorithms = ["RS256", "ES256", "EdDSA"]
        tenants = ["acme"]
        tenant_claim = "org"
        leeway_s = 5
        {more}
        """.encode(),
        Path("tenants.toml"),
    )


class Door:
    """Tokens with a clock of their own, whose issuer is asked when the test says so."""

    def __init__(self, issuer: Issuer, more: str = "") -> None:
        self.issuer, self.tenants, self.clock = issuer, file(issuer, more), Clock()
        self.tokens = Tokens(monotonic=self.clock)
        self.refresh()

    def refresh(self) -> None:
        """A round of the polling thread, until what it has started has ended."""
        self.tokens.refresh(self.tenants)
        for each in self.tokens._keys.values():
            with each._fetching:
                pass

    def caller(self, token: str) -> Any:
        return self.tokens.caller(token, self.tenants)


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with issuing(rsa="RS256", ec="ES256", ed="EdDSA") as running:
        yield running


@pytest.fixture(scope="module")
def door(issuer: Issuer) -> Door:
    return Door(issuer)


@pytest.mark.parametrize("id", ["rsa", "ec", "ed"])
def test_a_good_token_names_a_caller(issuer: Issuer, door: Door, id: str) -> None:
    caller = door.caller(issuer.token(id, roles=["explain", "audit", "unheard of"]))
    assert (caller.tenant, caller.name, caller.roles) == ("acme", "jane", frozenset({"explain", "audit"}))
    assert caller.may_see("birds")
    assert not caller.may_see("cats")


def test_roles_and_models_are_read_from_the_claims_that_the_file_names(issuer: Issuer) -> None:
    door = Door(
        issuer,
        'roles_claim = "realm_access.roles"\nmodels_claim = "models"\nname_claim = "email"\n'
        'role_names = { "ml-user" = "explain", "ml-boss" = "admin" }',
    )
    claims = {"realm_access": {"roles": ["ml-user", "admin"]}, "email": "jane@acme.example", "models": "birds birds2"}
    caller = door.caller(issuer.token("ec", **claims))
    assert (caller.name, caller.roles, caller.models) == (
        "jane@acme.example",
        frozenset({"explain"}),
        ("birds", "birds2"),
    )
    boss = door.caller(issuer.token("ec", **(claims | {"realm_access": {"roles": ["ml-boss"]}})))
    assert boss.roles == {"admin"}
    nothing = door.caller(issuer.token("ec", **(claims | {"models": None, "realm_access": 7})))
    assert (nothing.roles, nothing.models) == (frozenset(), ())
    assert not nothing.may_see("birds")


def test_no_issuer_makes_administrators_unless_the_operator_says_how(issuer: Issuer) -> None:
    assert Door(issuer).caller(issuer.token("ec", roles=["admin", "jobs"])).roles == {"jobs"}


def now() -> int:
    return int(time.time())


def hs256_with_public_key(issuer: Issuer) -> str:
    """The classic: the public key, which everybody has, taken for a shared secret."""
    head = segment({"alg": "HS256", "typ": "JWT", "kid": "rsa"}) + "." + segment(issuer.claims())
    secret = public_pem(issuer.keys["rsa"][1])
    return head + "." + segment(hmac.new(secret, head.encode(), hashlib.sha256).digest())


def none(name: str) -> Callable[[Issuer], str]:
    return lambda issuer: segment({"alg": name, "kid": "rsa"}) + "." + segment(issuer.claims()) + "."


def own_key(header: Callable[[Any, Issuer], dict[str, Any]]) -> Callable[[Issuer], str]:
    """Signed by a stranger, whose header says where a key is."""

    def token(issuer: Issuer) -> str:
        stranger = private_key("RS256")
        return jwt.encode(issuer.claims(), stranger, "RS256", headers={"kid": "rsa"} | header(stranger, issuer))

    return token


def cut(issuer: Issuer) -> str:
    head, body, _ = issuer.token("rsa").split(".")
    return f"{head}.{body}."


def changed(issuer: Issuer) -> str:
    head, _, signature = issuer.token("rsa").split(".")
    return f"{head}.{segment(issuer.claims(roles=['admin']))}.{signature}"


ATTACKS: dict[str, Callable[[Issuer], str]] = {
    "alg none": none("none"),
    "alg None": none("None"),
    "alg nOnE": none("nOnE"),
    "alg empty": none(""),
    "HS256 with the public key": hs256_with_public_key,
    "another audience": lambda i: i.token("rsa", aud="others"),
    "audiences without ours": lambda i: i.token("rsa", aud=["others", "ouzel2"]),
    "no audience": lambda i: i.token("rsa", aud=None),
    "another issuer": lambda i: i.token("rsa", iss="https://evil.example"),
    "issuer with a slash more": lambda i: i.token("rsa", iss=i.url + "/"),
    "issuer as a list": lambda i: (
        segment({"alg": "RS256", "kid": "rsa"}) + "." + segment(i.claims(iss=[i.url])) + ".AA"
    ),
    "no issuer": lambda i: i.token("rsa", iss=None),
    "expired": lambda i: i.token("rsa", exp=now() - 6),
    "no expiry": lambda i: i.token("rsa", exp=None),
    "not valid yet": lambda i: i.token("rsa", nbf=now() + 60),
    "issued in the future": lambda i: i.token("rsa", iat=now() + 60),
    "kid of a path": lambda i: i.token("rsa", {"kid": "../../../../dev/null"}),
    "kid of SQL": lambda i: i.token("rsa", {"kid": "rsa' OR '1'='1"}),
    "kid of another algorithm": lambda i: i.token("rsa", {"kid": "ec"}),
    "no kid among many": lambda i: jwt.encode(i.claims(), private_key("RS256"), "RS256"),
    "jku of the attacker": own_key(lambda key, i: {"jku": "https://evil.example/keys"}),
    "x5u of the attacker": own_key(lambda key, i: {"x5u": "https://evil.example/certificate"}),
    "jwk in the header": own_key(
        lambda key, i: {"jwk": json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))}
    ),
    "critical extension": lambda i: i.token("rsa", {"crit": ["http://example.com/x"], "http://example.com/x": True}),
    "signature cut off": cut,
    "claims changed": changed,
    "another tenant": lambda i: i.token("rsa", org="other"),
    "a tenant that there is not": lambda i: i.token("rsa", org="nobody"),
    "tenant as a list": lambda i: i.token("rsa", org=["acme"]),
    "no tenant": lambda i: i.token("rsa", org=None),
    "no subject": lambda i: i.token("rsa", sub=None),
    "subject with a line end": lambda i: i.token("rsa", sub="jane\nadmin"),
    "huge": lambda i: i.token("rsa", padding="x" * 10_000),
    "empty": lambda i: "",
    "dots": lambda i: "..",
    "not base64": lambda i: "a.b.c",
    "claims are a list": lambda i: jwt.api_jws.encode(b"[]", i.keys["rsa"][1], "RS256", headers={"kid": "rsa"}),
    "deep JSON": lambda i: segment({"alg": "RS256"}) + "." + segment(b"[" * 5000) + ".AA",
    "infinite expiry": lambda i: jwt.api_jws.encode(
        json.dumps(i.claims() | {"exp": float("inf")}).encode(), i.keys["rsa"][1], "RS256", headers={"kid": "rsa"}
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_denied(issuer: Issuer, door: Door, attack: str) -> None:
    door.caller(issuer.token("rsa"))  # what follows is not denied for some other reason
    asked = len(issuer.asked)
    with pytest.raises(Unauthenticated) as denied:
        door.caller(ATTACKS[attack](issuer))
    assert len(str(denied.value)) < 200
    assert len(issuer.asked) == asked


def test_an_algorithm_is_refused_that_the_file_does_not_name_though_the_issuer_has_a_key(issuer: Issuer) -> None:
    door = Door(issuer)
    (known,) = door.tenants.issuers.values()
    door.tenants = replace(door.tenants, issuers={issuer.url: replace(known, algorithms=("RS256",))})
    door.refresh()
    door.caller(issuer.token("rsa"))
    with pytest.raises(Unauthenticated, match="signed in a way"):
        door.caller(issuer.token("ec"))


def test_clocks_may_differ_by_the_leeway(issuer: Issuer, door: Door) -> None:
    door.caller(issuer.token("ec", exp=now() - 2))
    door.caller(issuer.token("ec", nbf=now() + 3, iat=now() + 3))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.text(), st.builds(lambda *p: ".".join(map(segment, p)), *[st.binary(max_size=40)] * 3)))
def test_no_text_makes_anything_else_than_a_denial(door: Door, text: str) -> None:
    with pytest.raises(Unauthenticated):
        door.caller(text)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    claims=st.dictionaries(
        st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "org", "roles"]),
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text()), st.just({})),
    )
)
def test_no_claims_make_anything_else_than_a_denial_or_a_caller(
    issuer: Issuer, door: Door, claims: dict[str, Any]
) -> None:
    body = json.dumps(issuer.claims() | claims).encode()
    token = jwt.api_jws.encode(body, issuer.keys["ed"][1], "EdDSA", headers={"kid": "ed"})
    try:
        assert door.caller(token).tenant == "acme"
    except Unauthenticated:
        assert claims


def test_a_new_key_is_fetched_when_a_token_names_it_and_strangers_cause_no_storm() -> None:
    with issuing(old="ES256") as issuer:
        door = Door(issuer)
        door.caller(issuer.token("old"))
        assert len(issuer.asked) == 2  # the description, and the keys
        issuer.new_key("new")
        del issuer.keys["old"]
        with pytest.raises(Unauthenticated):  # it has been asked only just now
            door.caller(issuer.token("new"))
        door.clock.now += issuer_keys.INTERVAL + 1
        with pytest.raises(Unavailable):  # it may be a new key, and the caller should try again
            door.caller(issuer.token("new"))
        door.refresh()
        assert door.caller(issuer.token("new")).name == "jane"
        assert len(issuer.asked) == 4
        for number in range(200):  # names of keys that strangers invent
            with pytest.raises(Unauthenticated):
                door.caller(issuer.token("new", {"kid": f"k{number}"}))
            door.refresh()
        assert len(issuer.asked) == 4
        door.clock.now += issuer_keys.INTERVAL + 1
        for number in range(200):
            with pytest.raises(Unauthenticated if number else Unavailable):
                door.caller(issuer.token("new", {"kid": f"k{number}"}))
            door.refresh()
        assert len(issuer.asked) == 6


def test_while_the_issuer_is_down_known_keys_work_until_their_time_is_over() -> None:
    with issuing(one="ES256") as issuer:
        door = Door(issuer, "keys_s = 600")
        token = issuer.token("one")
        issuer.down = True
        door.clock.now += 500
        door.refresh()
        door.caller(token)
        issuer.new_key("two")
        with pytest.raises(Unavailable):  # not Unauthenticated: it may be good
            door.caller(issuer.token("two"))
        door.clock.now += 101
        with pytest.raises(Unavailable):
            door.caller(token)
        issuer.down = False
        door.refresh()
        door.caller(token)
        door.caller(issuer.token("two"))


def test_an_issuer_that_is_down_from_the_start_is_asked_until_it_answers() -> None:
    with issuing(one="ES256") as issuer:
        issuer.down = True
        door = Door(issuer)
        token = issuer.token("one")
        with pytest.raises(Unavailable):
            door.caller(token)
        for _ in range(20):
            door.clock.now += issuer_keys.INTERVAL / 25
            door.refresh()
        assert len(issuer.asked) == 1
        issuer.down = False
        door.clock.now += issuer_keys.INTERVAL
        door.refresh()
        door.caller(token)


def test_a_silent_issuer_does_not_hold_up_those_who_ask(issuer: Issuer) -> None:
    go = threading.Event()

    def fetch(url: str, ca_file: Path | None) -> Any:
        go.wait(30)
        return issuer_keys.fetch_json(url, ca_file)

    tokens = Tokens(fetch)
    try:
        tokens.refresh(file(issuer))
        with pytest.raises(Unavailable):
            tokens.caller(issuer.token("ec"), file(issuer))
        assert not go.is_set()
    finally:
        go.set()

    def works() -> bool:
        try:
            return tokens.caller(issuer.token("ec"), file(issuer)).name == "jane"
        except Unavailable:
            return False

    until(works)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/.well-known/openid-configuration", {"issuer": "https://evil.example", "jwks_uri": "https://evil.example"}),
        ("/.well-known/openid-configuration", {"issuer": None}),
        ("/.well-known/openid-configuration", []),
        ("/keys", {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "one"}]}),
        ("/keys", {"keys": "none"}),
        ("/keys", {"keys": [{"kid": "one"}] * 101}),
        ("/keys", {"keys": [], "padding": "x" * 300_000}),
    ],
)
def test_what_is_no_description_or_no_keys_is_not_used(
    path: str, answer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with issuing(one="ES256") as issuer:
        usual = issuer.answer
        monkeypatch.setattr(issuer, "answer", lambda asked: answer if asked == path else usual(asked))
        door = Door(issuer)
        with pytest.raises(Unavailable):
            door.caller(issuer.token("one"))
        assert "issuer corp: its keys cannot be fetched" in caplog.text


def test_a_description_of_another_issuer_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with issuing(one="ES256") as issuer:
        usual = issuer.answer
        described = {"issuer": "https://evil.example", "jwks_uri": f"{issuer.url}/keys"}
        monkeypatch.setattr(issuer, "answer", lambda path: usual(path) if path == "/keys" else described)
        door = Door(issuer)
        with pytest.raises(Unavailable):
            door.caller(issuer.token("one"))


def test_a_jwks_uri_without_tls_on_another_machine_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with issuing(one="ES256") as issuer:
        described = {"issuer": issuer.url, "jwks_uri": "http://keys.example/keys"}
        monkeypatch.setattr(issuer, "answer", lambda _: described)
        door = Door(issuer)
        with pytest.raises(Unavailable):
            door.caller(issuer.token("one"))
        assert issuer.asked == ["/.well-known/openid-configuration"]


def test_only_keys_for_signatures_of_the_known_kinds_are_read() -> None:
    def jwk(key: Any, kind: Any) -> dict[str, Any]:
        return json.loads(kind.to_jwk(key.public_key()))

    good = jwk(private_key("RS256"), jwt.algorithms.RSAAlgorithm)
    weak = jwk(rsa.generate_private_key(public_exponent=65537, key_size=1024), jwt.algorithms.RSAAlgorithm)
    p384 = jwk(ec.generate_private_key(ec.SECP384R1()), jwt.algorithms.ECAlgorithm)
    private = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(private_key("RS256")))
    listed = [
        good | {"kid": "good"},
        weak | {"kid": "weak"},
        p384 | {"kid": "p384"},
        good | {"kid": "for encryption", "use": "enc"},
        good | {"kid": "for another algorithm", "alg": "PS256"},
        private | {"kid": "private"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared"},
        {"kty": [], "kid": "odd"},
        7,
    ]
    keys = issuer_keys.read_keys({"keys": listed})
    assert set(keys) == {("RS256", "good"), ("RS256", "private")}
    assert not hasattr(keys["RS256", "private"].key, "private_numbers")
    with pytest.raises(DataLoss):
        issuer_keys.read_keys([])
