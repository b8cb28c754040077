"""Which models exist for a tenant: the operator's, and those that it has tuned itself. So the worker has it, too."""

from __future__ import annotations

from dataclasses import replace

from ouzel.errors import NotFound
from ouzel.gateway.engine import Description, Engine, not_served


async def models(engine: Engine, tenant: str) -> list[Description]:
    """All that exist for a tenant, each with the versions that do. Raises as `Engine.models`."""
    seen = [(each, each.seen_by(tenant)) for each in await engine.models()]
    return [replace(each, versions=versions) for each, versions in seen if each.version in versions]


async def found(engine: Engine, tenant: str, model: str, version: str) -> Description:
    """What is known of a version; "" is the default one. Raises as `Engine.describe`, and NotFound likewise.

    What is said of a version that is not there, or not for the tenant, names versions of the tenant's only.
    """
    try:
        described = await engine.describe(model, version)
        versions = described.seen_by(tenant)
        if described.version in versions:
            return replace(described, versions=versions)
    except NotFound as error:
        if error.field != "version":
            raise
    others = [each.version for each in await models(engine, tenant) if each.name == model]
    if not others:
        raise not_served(model)
    held = ", ".join(others[:20])
    if not version:
        raise NotFound(f"version: {model!r} has no default version; name one of {held}", field="version")
    raise NotFound(f"version: {version!r:.40} of {model!r} is not served; there are {held}", field="version")
