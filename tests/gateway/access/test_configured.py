from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from ouzel.errors import InvalidArgument, NotFound, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable
from ouzel.gateway.access.caller import ROLES, Access, unknown_model
from ouzel.gateway.access.certificate import Certificate
from ouzel.gateway.access.open import OpenAccess
from support.issuers import issuing

if TYPE_CHECKING:
    from conftest import Site

ROBOT = """
[[certificates]]
tenant = "acme"
name = "certified"
roles = ["jobs"]
san = "URI:spiffe://acme/robot"
[[certificates]]
tenant = "acme"
name = "second"
roles = ["jobs"]
subject = "CN=second,O=Acme"
"""
LATER = time.time() + 86_400
CERTIFICATE = Certificate("CN=robot", ("DNS:robot.example", "URI:spiffe://acme/robot"), LATER)


def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_without_configuration_everybody_is_the_local_user() -> None:
    access: Access = OpenAccess()
    caller = access.identify(None, None)
    assert (caller.tenant, caller.roles, caller.may_see("anything")) == ("local", frozenset(ROLES), True)
    for _ in range(1000):
        access.admit(caller, "admin", "anything").__enter__()


def test_a_key_brings_its_tenants_limits_and_both_patterns_of_models(site: Site) -> None:
    site.write('models = ["bird*"]\nburst = 7')
    key = site.key("acme", "explain", models=("*s",))
    with site.open() as access:
        caller = access.identify(f"Bearer {key}", None)
        assert (caller.tenant, caller.name, caller.limits.burst) == ("acme", "robot", 7)
        assert [caller.may_see(name) for name in ("birds", "bird", "cats", "Birds")] == [True, False, False, False]
        assert access.identify(f"bearer  {key}", None) == caller  # the scheme has no case


def test_roles_and_models_are_needed(site: Site) -> None:
    site.write('models = ["bird*"]')
    key = site.key("acme", "explain")
    with site.open() as access:
        caller = access.identify(f"Bearer {key}", None)
        with access.admit(caller, "explain", "birds"):
            pass
        with pytest.raises(PermissionDenied, match="'jobs'"):
            access.admit(caller, "jobs", "birds")
        with pytest.raises(NotFound) as foreign:
            access.admit(caller, "explain", "cats")
        missing = unknown_model("cats")
        assert (str(foreign.value), foreign.value.field) == (str(missing), missing.field)


def test_what_is_refused_for_role_or_model_takes_nothing_of_the_rate(site: Site) -> None:
    site.write('models = ["bird*"]\nburst = 1\nrequests_per_second = 0.001')
    key = site.key("acme", "explain")
    with site.open() as access:
        caller = access.identify(f"Bearer {key}", None)
        for role, model in (("jobs", None), ("explain", "cats")) * 5:
            with pytest.raises((PermissionDenied, NotFound)), access.admit(caller, role, model):
                pass
        with access.admit(caller, "explain", "birds"):
            pass
        with pytest.raises(ResourceExhausted) as refused, access.admit(caller, "explain", "birds"):
            pass
        assert refused.value.retry_after == pytest.approx(1000, rel=0.01)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Basic YTpi", "ouzel_abc", "Bearer a b", "Bearer ouzel_abc", "Bearer é", "Bearer x"],
)
def test_other_headers_are_nobodys(site: Site, header: str) -> None:
    with site.open() as access, pytest.raises(Unauthenticated):
        access.identify(header, None)


def test_a_certificate_stands_for_its_owner(site: Site) -> None:
    site.write(more=ROBOT)
    with site.open() as access:
        assert access.identify(None, CERTIFICATE).name == "certified"
        assert access.identify(None, Certificate("CN=second,O=Acme", (), LATER)).name == "second"
        for certificate, message in (
            (None, "no API key"),
            (Certificate("CN=stranger", ("DNS:spiffe://acme/robot",), LATER), "not known"),
            (Certificate("", (), LATER), "not known"),
            (Certificate("CN=second,O=Acme", CERTIFICATE.names, LATER), "more than one"),
            (Certificate("CN=robot", CERTIFICATE.names, time.time() - 1), "expired"),
        ):
            with pytest.raises(Unauthenticated, match=message):
                access.identify(None, certificate)


def test_a_key_goes_before_a_certificate_of_the_same_tenant_and_is_refused_with_one_of_another(site: Site) -> None:
    site.write(more=ROBOT)
    own, foreign = site.key("acme"), site.key("other")
    with site.open() as access:
        assert access.identify(f"Bearer {own}", CERTIFICATE).name == "robot"
        assert access.identify(f"Bearer {foreign}", Certificate("CN=stranger", (), LATER)).tenant == "other"
        with pytest.raises(Unauthenticated, match="another tenant"):
            access.identify(f"Bearer {foreign}", CERTIFICATE)
        with pytest.raises(Unauthenticated):  # a wrong key is not made good by a certificate
            access.identify("Bearer ouzel_wrong", CERTIFICATE)


def test_the_file_is_taken_over_while_the_door_is_open(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    key = site.key("acme")
    with site.open() as access:
        header = f"Bearer {key}"
        assert access.identify(header, None).limits.burst == 100
        site.write("burst = 0")
        until(lambda: "tenants.acme.burst: 0" in caplog.text)
        assert access.identify(header, None).limits.burst == 100
        site.write("burst = 5")
        until(lambda: access.identify(header, None).limits.burst == 5)
        site.file.write_text("[tenants.other]\n")

        def gone() -> bool:
            try:
                access.identify(header, None)
            except Unauthenticated as denied:
                return "tenant" in str(denied)
            return False

        until(gone)


def test_a_key_that_is_made_while_the_door_is_open_works(site: Site) -> None:
    with site.open() as access:
        key = site.key("acme")

        def works() -> bool:
            try:
                return access.identify(f"Bearer {key}", None).name == "robot"
            except Unauthenticated:
                return False

        until(works)


def test_a_token_of_an_issuer_opens_the_door(site: Site) -> None:
    with issuing(one="EdDSA") as issuer:
        site.write(
            more=f'[issuers.corp]\nurl = "{issuer.url}"\naudience = "ouzel"\nalgorithms = ["EdDSA"]\ntenant = "other"'
        )
        with site.open() as access:
            token = issuer.token("one", org=None)

            def works() -> bool:
                try:
                    return access.identify(f"Bearer {token}", None).tenant == "other"
                except Unavailable:  # its keys are being fetched
                    return False

            until(works)
            assert access.identify(f"Bearer {token}", None).name == "jane"


def test_a_door_is_not_opened_with_a_broken_file(site: Site) -> None:
    site.write("burst = 0")
    with pytest.raises(InvalidArgument, match="burst"), site.open():
        pass


def test_an_administrator_acts_for_a_tenant_within_that_tenants_models(site: Site) -> None:
    site.write('models = ["bird*"]\nburst = 7', "\n[tenants.ops]\n")
    admin, robot = site.key("ops", "admin", "jobs", models=("*s",)), site.key("acme", "jobs")
    with site.open() as access:
        caller = access.behalf(access.identify(f"Bearer {admin}", None), "acme")
        assert (caller.tenant, caller.name, caller.limits.burst) == ("acme", "ops/robot", 7)
        assert [caller.may_see(name) for name in ("birds", "bird", "cats")] == [True, False, False]
        with pytest.raises(PermissionDenied, match="'admin'"):
            access.behalf(access.identify(f"Bearer {robot}", None), "acme")
        with pytest.raises(NotFound, match=r"^x-ouzel-tenant: there is no tenant 'nobody'"):
            access.behalf(access.identify(f"Bearer {admin}", None), "nobody")


def test_without_configuration_there_is_no_other_tenant() -> None:
    access = OpenAccess()
    caller = access.identify(None, None)
    assert access.behalf(caller, "local") == caller
    with pytest.raises(NotFound, match="'acme'"):
        access.behalf(caller, "acme")
