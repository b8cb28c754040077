"""What the operator has said of tenants, certificates and issuers of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ouzel.checks import one_of, within
from ouzel.errors import InvalidArgument
from ouzel.gateway.access.caller import ALL, Caller, TenantLimits, checked_patterns, checked_roles

ALGORITHMS = ("RS256", "ES256", "EdDSA")  # of signatures; none with secrets that both sides have


@dataclass(frozen=True)
class Tenant:
    """Whose quota and models count.

    Attributes:
        name: 1 to 63 letters, digits and . _ @ -, beginning with a letter or digit.
        models: Patterns of names of models that its callers may see.
        limits: Of its callers together.
    """

    name: str
    models: tuple[str, ...] = ALL
    limits: TenantLimits = field(default_factory=TenantLimits)

    def __post_init__(self) -> None:
        checked_patterns(self.models)

    def caller(self, name: str, roles: frozenset[str], models: tuple[str, ...] = ALL) -> Caller:
        """Somebody of this tenant."""
        return Caller(self.name, name, roles, models, self.limits, self.models)


@dataclass(frozen=True)
class CertificateOwner:
    """Whom a certificate of a client stands for.

    Attributes:
        tenant: Of the file.
        name: For logs and the ledger.
        roles: What it may do.
        models: Patterns of names of models.
        subject: The whole subject in the form of RFC 4514; "" if `san` tells.
        san: One alternative name, "DNS:...", "URI:..." or "email:..."; "" if `subject` tells.
    """

    tenant: str
    name: str
    roles: frozenset[str]
    models: tuple[str, ...] = ALL
    subject: str = ""
    san: str = ""

    def __post_init__(self) -> None:
        checked_roles(sorted(self.roles))
        checked_patterns(self.models)
        if bool(self.subject) == bool(self.san):
            raise InvalidArgument("san: give one of san and subject", field="san")
        if self.san and not self.san.startswith(("DNS:", "URI:", "email:")):
            raise InvalidArgument(f'san: {self.san!r:.80} does not begin with "DNS:", "URI:" or "email:"', field="san")


@dataclass(frozen=True)
class Issuer:
    """Who signs tokens (JWT, by OpenID Connect), and how their claims are read.

    Attributes:
        name: Of its table.
        url: As the tokens' claim `iss` has it. "/.well-known/openid-configuration" below it names its keys.
        audience: What the claim `aud` must hold: this gateway's name at the issuer.
        algorithms: Some of `ALGORITHMS`.
        tenants: Whose tokens it may sign; () for all.
        tenant: Of all its tokens; "" if `tenant_claim` tells.
        tenant_claim: Names the claim with the tenant.
        roles_claim: Names the claim with the roles: a list, or a text with spaces between them.
        role_names: Roles by what the issuer calls them; empty: by their own names. Others are passed over.
        models_claim: Names the claim with patterns of models; "": all.
        name_claim: Names the claim with the name for logs and the ledger.
        leeway_s: 0 to 300 s by which clocks may differ.
        keys_s: 60 to 86,400 s that its keys are used without having been seen again.
        ca_file: Certificates that its server may have been signed with; None for the usual ones.
    """

    name: str
    url: str
    audience: str
    algorithms: tuple[str, ...] = ("RS256",)
    tenants: tuple[str, ...] = ()
    tenant: str = ""
    tenant_claim: str = ""
    roles_claim: str = "roles"
    role_names: Mapping[str, str] = field(default_factory=dict)
    models_claim: str = ""
    name_claim: str = "sub"
    leeway_s: float = 30.0
    keys_s: float = 3600.0
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        for each in self.algorithms:
            one_of("algorithms", each, ALGORITHMS)
        if not self.algorithms:
            raise InvalidArgument(f"algorithms: is empty; give some of {', '.join(ALGORITHMS)}", field="algorithms")
        if bool(self.tenant) == bool(self.tenant_claim):
            raise InvalidArgument("tenant: give one of tenant and tenant_claim", field="tenant")
        for name, role in self.role_names.items():
            checked_roles([role], f"role_names.{name[:80]}")
        within("leeway_s", self.leeway_s, 0, 300, unit="s")
        within("keys_s", self.keys_s, 60, 86_400, unit="s")


@dataclass(frozen=True)
class Tenants:
    """The whole file.

    Attributes:
        tenants: By name.
        certificates: By subject or alternative name.
        issuers: By the URL in their tokens.
    """

    tenants: Mapping[str, Tenant]
    certificates: Mapping[str, CertificateOwner] = field(default_factory=dict)
    issuers: Mapping[str, Issuer] = field(default_factory=dict)
