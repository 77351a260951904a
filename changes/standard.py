"""Standard changes: writing a template, the CAB's decision on it, and making an authorised RFC from it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts import language
from changes.approvals import change_hash
from changes.models import Change, ChangeApproval, StandardTemplate, StandardTemplateApproval
from cmdb.groups import definition_digest
from cmdb.models import ConfigurationItem
from software.models import Product
from tickets.exceptions import ConditionRefused, InvalidInput, SeparationOfDuties, TransitionRefused
from tickets.lifecycle import check_permission
from tickets.models import Decision
from tickets.services import content_hash, create_ticket, move_once, required, validate

MANAGE = "changes.manage_change"
APPROVE = "changes.approve_change"
FIELDS = (
    "name", "description", "implementation_plan", "backout_plan", "most_cis", "soak_seconds", "needs_test", "is_active",
)  # fmt: skip
LINKS = ("products", "groups", "users", "teams")


def write_template(*, actor: Any, now: datetime, **values: Any) -> StandardTemplate:
    """A new template; it can be used once the CAB has approved it. Fields and links as in `FIELDS` and `LINKS`."""
    check_permission(actor, MANAGE, _("write standard changes"))
    template = StandardTemplate(created_by=actor, created_at=now)
    return _write(template, actor, now, values)


def edit_template(template: StandardTemplate, *, actor: Any, now: datetime, **values: Any) -> StandardTemplate:
    """Changes a template; another content needs a new approval. What is not given stays."""
    check_permission(actor, MANAGE, _("edit standard changes"))
    with transaction.atomic():
        return _write(_locked(template), actor, now, values)


def _write(template: StandardTemplate, actor: Any, now: datetime, values: dict[str, Any]) -> StandardTemplate:
    links = {name: list(values.pop(name)) for name in LINKS if name in values}
    for field, value in values.items():
        if field not in FIELDS:
            raise InvalidInput(_("This cannot be edited: %(name)s.") % {"name": field})
        setattr(template, field, value)
    template.last_editor, template.updated_at = actor, now
    validate(template)
    for field in ("implementation_plan", "backout_plan"):
        required(getattr(template, field), field, _("Say how it is done, and how it is undone."))
    if StandardTemplate.objects.filter(name=template.name).exclude(pk=template.pk).exists():
        raise InvalidInput(_("Another standard change has this name."), field="name")
    with transaction.atomic():
        template.save()
        for name, objects in links.items():
            getattr(template, name).set(objects)
    return template


def template_hash(template: StandardTemplate) -> str:
    """SHA-256 (hex) of what an approval is bound to: fields, products, people, and how its groups are defined."""
    content: dict[str, Any] = {name: getattr(template, name) for name in FIELDS if name != "is_active"}
    for name in ("products", "users", "teams"):
        content[name] = sorted(getattr(template, name).values_list("pk", flat=True))
    content["groups"] = {group.pk: definition_digest(group) for group in template.groups.order_by("pk")}
    return content_hash({"template": template.pk, **content})


def valid_template_approval(template: StandardTemplate) -> StandardTemplateApproval | None:
    """The last decision on the present content, if it is an approval."""
    latest = template.approvals.filter(content_hash=template_hash(template)).order_by("created_at", "pk").last()
    return latest if latest is not None and latest.decision == Decision.APPROVED else None


def approve_template(
    template: StandardTemplate, *, actor: Any, now: datetime, comment: str = "", seen_hash: str = ""
) -> None:
    """The CAB's approval of exactly this content; by a person who never wrote or edited it."""
    _decide(template, Decision.APPROVED, actor, now, comment, seen_hash)


def reject_template(template: StandardTemplate, *, actor: Any, now: datetime, comment: str) -> None:
    """Takes the approval of the present content back, or refuses it, with the reason."""
    _decide(template, Decision.REJECTED, actor, now, required(comment, "comment", _("Say why.")), "")


def _decide(template: StandardTemplate, decision: str, actor: Any, now: datetime, comment: str, seen: str) -> None:
    check_permission(actor, APPROVE, _("decide on standard changes"))
    with transaction.atomic():
        template = _locked(template)
        wrote_it = actor.pk in (template.created_by_id, template.last_editor_id)
        has_edited = template.history.filter(last_editor=actor).exists()  # type: ignore[attr-defined]
        if actor.is_service_account or wrote_it or has_edited:
            raise SeparationOfDuties(
                _("You wrote or edited %(name)s, or are no person. A member of the CAB who took no part in it decides.")
                % {"name": template.name}
            )
        content = template_hash(template)
        if seen and seen != content:
            raise TransitionRefused(
                _("%(name)s was edited meanwhile. Read the new version first.") % {"name": template.name},
                code="edit_conflict",
            )
        StandardTemplateApproval.objects.create(
            template=template, approver=actor, decision=decision, content_hash=content, comment=comment, created_at=now
        )


def use_template(
    template: StandardTemplate,
    *,
    actor: Any,
    now: datetime,
    products: Iterable[Product],
    cis: Iterable[ConfigurationItem],
    reason: str = "",
) -> tuple[Change, StandardTemplateApproval]:
    """An authorised standard RFC for these products and CIs, and the approval that it stands on.

    Refuses who is not named in the template, who approved it (`SeparationOfDuties`), a template that is not approved
    as it is now, and products, CIs or numbers of CIs beyond it (`ConditionRefused`).
    """
    with transaction.atomic():
        template = _locked(template)
        if not StandardTemplate.objects.usable_by(actor).filter(pk=template.pk).exists():
            raise ConditionRefused(
                _("You may not use %(name)s. Ask a change manager to name you or your team.") % {"name": template.name},
                code="template_not_yours",
            )
        approval = valid_template_approval(template)
        if approval is None:
            raise ConditionRefused(
                _("%(name)s is not approved as it is now. Ask a member of the CAB.") % {"name": template.name},
                code="template_not_approved",
            )
        if approval.approver_id == actor.pk:
            raise SeparationOfDuties(_("You approved %(name)s; somebody else uses it.") % {"name": template.name})
        products, cis = list(products), list(cis)
        _check_scope(template, products, cis)
        title = f"{template.name}: {', '.join(product.name for product in products)}"
        change = create_ticket(
            Change,
            actor=actor,
            now=now,
            title=title[:200],
            description="\n\n".join(filter(None, [template.description, reason.strip()])),
            change_type=Change.Type.STANDARD,
            risk="low",
            risk_reason=language.gettext("Standard change."),
            implementation_plan=template.implementation_plan,
            backout_plan=template.backout_plan,
            template=template,
        )
        change.products.set(products)
        change.affected_cis.set(cis)
        by = {"template": template.number, "approver": approval.approver, "content": approval.content_hash[:16]}
        text = _("Standard change %(template)s, approved by %(approver)s (content %(content)s…).") % by
        ChangeApproval.objects.create(
            change=change, approver=approval.approver, decision=Decision.APPROVED, content_hash=change_hash(change),
            comment=text, created_at=now,
        )  # fmt: skip
        pre_authorise_change(change, now=now, key=f"template:{template.pk}", text=text)
    return change, approval


def pre_authorise_change(change: Change, *, now: datetime, key: str, text: str) -> bool:
    """Its template is its authorisation; True if that moved it. Once for each key."""
    return move_once(change, "pre_authorise", now=now, key=key, text=text)


def _check_scope(template: StandardTemplate, products: list[Product], cis: list[ConfigurationItem]) -> None:
    allowed = set(template.products.values_list("pk", flat=True))
    if beyond := [product.name for product in products if product.pk not in allowed]:
        raise ConditionRefused(
            _("%(name)s is not for %(products)s.") % {"name": template.name, "products": ", ".join(beyond)},
            code="template_scope",
        )
    members: set[int] = set()
    wanted = [ci.pk for ci in cis]
    for group in template.groups.all():
        members.update(group.members().filter(pk__in=wanted).values_list("pk", flat=True))
    outside = [ci.name for ci in cis if ci.pk not in members]
    if outside or not cis:
        raise ConditionRefused(
            _("%(name)s is not for these CIs: %(cis)s.")
            % {"name": template.name, "cis": ", ".join(outside[:5]) or "–"},
            code="template_scope",
        )
    if len(cis) > template.most_cis:
        raise ConditionRefused(
            ngettext(
                "%(name)s is for at most %(most)d CI at once; these are %(count)d.",
                "%(name)s is for at most %(most)d CIs at once; these are %(count)d.",
                template.most_cis,
            )
            % {"name": template.name, "most": template.most_cis, "count": len(cis)},
            code="template_scope",
        )


def _locked(template: StandardTemplate) -> StandardTemplate:
    StandardTemplate.objects.select_for_update().only("pk").get(pk=template.pk)
    template.refresh_from_db()
    return template
