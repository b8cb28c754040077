from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ouzel.errors import InvalidArgument
from ouzel.gateway.access.caller import TenantLimits
from ouzel.gateway.access.tenants_file import parse
from ouzel.gateway.access.watched import Watched

GOOD = """
[tenants.acme]
models = ["bird*", "cat"]
requests_per_second = 2.5
burst = 4
concurrency = 3
body_bytes = 2048

[tenants.other]

[[certificates]]
tenant = "acme"
name = "robot"
roles = ["explain", "jobs"]
san = "URI:spiffe://acme/robot"

[issuers.corp]
url = "https://login.example.com/realm"
audience = "ouzel"
tenant_claim = "org"
tenants = ["acme"]
role_names = { "ml-admin" = "admin" }
"""
FILE = Path("/etc/ouzel/tenants.toml")


def test_a_file_says_what_it_says() -> None:
    read = parse(GOOD.encode(), FILE)
    assert read.tenants["acme"].models == ("bird*", "cat")
    assert read.tenants["acme"].limits == TenantLimits(2.5, 4, 3, 2048)
    assert read.tenants["other"].limits == TenantLimits()
    assert read.certificates["URI:spiffe://acme/robot"].roles == frozenset({"explain", "jobs"})
    issuer = read.issuers["https://login.example.com/realm"]
    assert (issuer.name, issuer.algorithms, dict(issuer.role_names)) == ("corp", ("RS256",), {"ml-admin": "admin"})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("burst = 4", "burst = 0", "tenants.acme.burst: 0 is not within 1..100000"),
        ("burst = 4", 'burst = "4"', "tenants.acme.burst: is not an integer"),
        ("burst = 4", "bursts = 4", "tenants.acme.bursts: unknown; .*'burst'"),
        ("requests_per_second = 2.5", "requests_per_second = nan", "requests_per_second: nan"),
        ("requests_per_second = 2.5", "requests_per_second = -1", "requests_per_second: -1"),
        ("concurrency = 3", "concurrency = 1000000", "tenants.acme.concurrency: 1000000 .*10000"),
        ("body_bytes = 2048", "body_bytes = 1", "tenants.acme.body_bytes: 1 .*1024"),
        ('models = ["bird*", "cat"]', 'models = "bird*"', "tenants.acme.models: 'bird\\*' is not a list"),
        ('models = ["bird*", "cat"]', "models = []", "tenants.acme.models: is empty"),
        ("[tenants.other]", '[tenants."a b"]', "tenants.a b.name: 'a b'"),
        ("[tenants.other]", "[tenant.other]", "tenant: unknown; .*'tenants'"),
        ('tenant = "acme"', 'tenant = "acne"', "certificates\\[0\\].tenant: .*tenants.acne.*'acme'"),
        ('roles = ["explain", "jobs"]', 'roles = ["exlain"]', "certificates\\[0\\].roles: 'exlain' is not one of"),
        ('roles = ["explain", "jobs"]', "", "certificates\\[0\\].roles: is empty"),
        ('san = "URI:spiffe://acme/robot"', 'san = "robot"', "certificates\\[0\\].san: 'robot' does not begin with"),
        ('san = "URI:spiffe://acme/robot"', "", "certificates\\[0\\].san: give one"),
        ("https://login", "http://login", "issuers.corp.url: .*does not begin with https"),
        ('audience = "ouzel"', "", "issuers.corp.audience: missing"),
        ('audience = "ouzel"', 'audience = "ouzel"\nalgorithms = ["HS256"]', "issuers.corp.algorithms: 'HS256'"),
        ('audience = "ouzel"', 'audience = "ouzel"\nalgorithms = ["none"]', "issuers.corp.algorithms: 'none'"),
        ('tenant_claim = "org"', "", "issuers.corp.tenant: give one"),
        ('tenant_claim = "org"', 'tenant_claim = "org"\nleeway_s = 3000', "issuers.corp.leeway_s: 3000 .*300"),
        ('"ml-admin" = "admin"', '"ml-admin" = "root"', "issuers.corp.role_names.ml-admin: 'root'"),
        ("[tenants.acme]", "[tenants.acme", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(InvalidArgument, match=f"{FILE}: .*{message}"):
        parse(GOOD.replace(old, new).encode(), FILE)


def test_a_file_without_tenants_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="there are 0 tables"):
        parse(b"", FILE)


def test_a_change_is_in_force_and_a_broken_one_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "tenants.toml"
    path.write_text("[tenants.a]\n")
    watched = Watched([path], lambda raw: parse(raw[0], path), str(path))
    first = watched.value
    with caplog.at_level(logging.INFO):
        watched.refresh()
        assert not caplog.messages
        path.write_text("[tenants.a]\nburst = 0\n")
        for _ in range(3):
            watched.refresh()
        assert watched.value is first
        assert "tenants.a.burst" in watched.problem
        (told,) = caplog.messages  # once
        assert "not in force" in told
        assert "tenants.a.burst: 0" in told
        path.write_text("[tenants.a]\n")  # as before
        watched.refresh()
        assert not watched.problem
        path.unlink()
        watched.refresh()
        assert "cannot be read" in watched.problem
        assert watched.value is first
        path.write_text("[tenants.b]\n")
        watched.refresh()
        assert set(watched.value.tenants) == {"b"}
        assert not watched.problem
        path.write_text("[tenants.c]\n")  # as long, and perhaps within the same tick of the clock of files
        watched.refresh()
        assert set(watched.value.tenants) == {"c"}
