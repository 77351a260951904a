"""Making and changing groups of CIs, and the digest that approvals of releases are bound to."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from cmdb.group_filter import check_filter
from cmdb.models import CIGroup, ConfigurationItem
from tickets.exceptions import InvalidInput
from tickets.lifecycle import check_permission
from tickets.services import content_hash, validate

MANAGE = "cmdb.manage_cis"


def create_group(
    *,
    actor: Any,
    now: datetime,
    name: str,
    description: str = "",
    filter: Any = None,
    static_members: Iterable[ConfigurationItem] = (),
) -> CIGroup:
    """A new group. Refuses a name that another one has, a filter that is none, and copies as members."""
    check_permission(actor, MANAGE, _("make groups of CIs"))
    group = CIGroup(name=name, description=description, filter=check_filter(filter or {}))
    with transaction.atomic():
        _check(group)
        group.save(force_insert=True)
        group.static_members.set(_production(static_members))
    return group


def edit_group(group: CIGroup, *, actor: Any, now: datetime, **values: Any) -> None:
    """Changes name, description, filter or named members; what is not given stays. Refusals as for a new one."""
    check_permission(actor, MANAGE, _("change groups of CIs"))
    members = values.pop("static_members", None)
    if "filter" in values:
        values["filter"] = check_filter(values["filter"] or {})
    with transaction.atomic():
        CIGroup.objects.select_for_update().only("pk").get(pk=group.pk)
        group.refresh_from_db()
        for field, value in values.items():
            setattr(group, field, value)
        _check(group)
        group.save(update_fields=list(values))
        if members is not None:
            group.static_members.set(_production(members))


def add_members(group: CIGroup, *, actor: Any, now: datetime, cis: Iterable[ConfigurationItem]) -> None:
    """Names further CIs; those that are named already stay."""
    check_permission(actor, MANAGE, _("change groups of CIs"))
    group.static_members.add(*_production(cis))


def remove_members(group: CIGroup, *, actor: Any, now: datetime, cis: Iterable[ConfigurationItem]) -> None:
    """Names these CIs no longer; a filter may still make them members."""
    check_permission(actor, MANAGE, _("change groups of CIs"))
    group.static_members.remove(*cis)


def definition_digest(group: CIGroup) -> str:
    """SHA-256 (hex) over filter and named members: the same digest means the same definition."""
    named = group.static_members.order_by("pk").values_list("pk", flat=True)
    return content_hash({"filter": group.filter, "members": list(named)})


def _check(group: CIGroup) -> None:
    validate(group, exclude=("filter",))
    if CIGroup.objects.filter(name=group.name).exclude(pk=group.pk).exists():
        raise InvalidInput(_("Another group has this name. Choose another one."), field="name")


def _production(cis: Iterable[ConfigurationItem]) -> list[ConfigurationItem]:
    found = list(cis)
    copies = [ci.name for ci in found if ci.copy_of_id is not None]
    if copies:
        names = ", ".join(copies[:5])
        raise InvalidInput(_("Copies for tests are in no group: %(names)s.") % {"names": names}, field="static_members")
    return found
