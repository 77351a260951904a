"""One version to one CI or group, in one call: a release and a big bang by the normal rules.

From a standard change, the CAB's approval of the template stands for that of RFC and release, so it starts at once.
From an authorised RFC, the release is planned and built; once somebody else has approved it and its test has passed,
the tick starts it in the name of the one who ordered it. Every refusal of the single verbs holds here.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext as _

from accounts import language
from accounts.models import User
from changes.models import Change, StandardTemplate, StandardTemplateApproval
from changes.standard import use_template
from cmdb.models import CIGroup, ConfigurationItem, InstalledVersion
from releases.models import Release, ReleaseApproval, Rollout, RolloutException, TestRun
from releases.services.approval import has_valid_approval
from releases.services.content import release_hash
from releases.services.exceptions import accept
from releases.services.package import build_release, draft_release, left_out_changes, plan_release
from releases.services.rollouts import start_rollout
from releases.services.signatures import NAMED, signing_request
from releases.targets import target_cis
from software.models import Version
from tickets.exceptions import ConditionRefused, InvalidInput
from tickets.lifecycle import check_permission
from tickets.models import Decision, EntryKind
from tickets.services import move_ticket, record

MOST_CIS = 5000


@dataclass(frozen=True, slots=True)
class Ordered:
    """What came of the order: without a rollout, `waits_for` names the gate (`test`, `approval`)."""

    release: Release
    change: Change
    rollout: Rollout | None
    waits_for: str = ""


@transaction.atomic
def deploy(*, actor: User, now: datetime, version: Version, **order: Any) -> Ordered:
    """Orders the version for one `ci` or one `group`, from a standard change (`template`) or an authorised RFC
    (`change`); all or nothing.

    `is_fresh` also installs it where the product is not there yet. `left_out_reason` says why other authorised RFCs
    of the product are not in it; `reason` is for people. Needs the rights to build a release and to start a rollout.
    """
    release, change, approval = _built(actor=actor, now=now, version=version, **order)
    if approval is None:
        Release.objects.filter(pk=release.pk).update(start_for=actor)
        release.refresh_from_db()
        return Ordered(release, change, None, waits_for="test")
    _stand_on(order["template"], approval, release, version, now)
    try:
        return Ordered(release, change, start_rollout(release, actor=actor, now=now))
    except ConditionRefused as refusal:
        if refusal.code != "signatures_missing":
            raise
        # The release that the refusal names is not made.
        text = _(
            "Not signed, expired, or signed with a key that no longer counts: %s. Ask for the signing request of this "
            "order (/api/v1/deploy/signing_request/), have the key holder sign it, upload the result, and order again."
        )
        detail: Any = refusal.detail
        named = "; ".join(detail["missing"][:NAMED])
        raise ConditionRefused(text % named, code=refusal.code, detail=detail) from refusal


def order_signing_request(*, actor: User, now: datetime, **order: Any) -> dict[str, Any]:
    """What the key holder has to sign before this order can start: manifests and the ways back. Makes nothing.

    Takes and refuses what `deploy` does.
    """
    with transaction.atomic():
        release, _change, _approval = _built(actor=actor, now=now, **order)
        request = signing_request(release, now=now)
        transaction.set_rollback(True)
    return {**request, "for": release.title}


def _built(
    *,
    actor: User,
    now: datetime,
    version: Version,
    ci: ConfigurationItem | None = None,
    group: CIGroup | None = None,
    template: StandardTemplate | None = None,
    change: Change | None = None,
    is_fresh: bool = False,
    reason: str = "",
    left_out_reason: str = "",
) -> tuple[Release, Change, StandardTemplateApproval | None]:
    """The planned and built release of an order, its RFC, and the approval of the template that it was made from."""
    check_permission(actor, "releases.build_release", _("write a release"))
    check_permission(actor, "releases.start_rollout", _("start a rollout"))
    if (ci is None) == (group is None):
        raise InvalidInput(_("Name either a CI or a group."), field="ci")
    if (template is None) == (change is None):
        raise InvalidInput(_("Name either a standard change or an authorised RFC."), field="template")
    cis = _candidates(version, ci, group, is_fresh)
    approval = None
    if template is not None:
        change, approval = use_template(
            template, actor=actor, now=now, products=[version.product], cis=cis, reason=reason
        )
    assert change is not None
    _check_rfc(change, version, cis)
    fresh = {str(one.pk): [version.product_id] for one in cis if not one.has_product} if is_fresh else {}  # type: ignore[attr-defined]
    # Exactly the CIs that were checked: whoever joins the group from now on is not among them.
    targets: dict[str, Any] = {"cis": [one.pk for one in cis]}
    if group is not None:
        targets["groups"] = [group.pk]
    release = draft_release(
        actor=actor,
        now=now,
        title=language.gettext("%(version)s for %(target)s") % {"version": version, "target": ci or group},
        description=reason,
        changes=[change],
        versions=[version],
        policy={"strategy": "big_bang", **({"soak_seconds": template.soak_seconds} if template is not None else {})},
        targets={**targets, "fresh": fresh},
    )
    left_out = dict.fromkeys(left_out_changes(release).values_list("pk", flat=True), left_out_reason)
    plan_release(release, actor=actor, now=now, left_out=left_out)
    build_release(release, actor=actor, now=now)
    return release, change, approval


def _candidates(
    version: Version, ci: ConfigurationItem | None, group: CIGroup | None, is_fresh: bool
) -> list[ConfigurationItem]:
    """The production CIs in operation that are meant and can be reached; with `has_product`."""
    meant = group.members() if group is not None else ConfigurationItem.objects.filter(pk=ci.pk)  # type: ignore[union-attr]
    installed = InstalledVersion.objects.filter(ci=OuterRef("pk"), valid_to__isnull=True, product=version.product_id)
    reached = Q(agent_id__isnull=False) | Q(channel=ConfigurationItem.Channel.ANSIBLE)
    cis = meant.production().filter(reached, lifecycle=ConfigurationItem.Lifecycle.IN_OPERATION)
    cis = cis.annotate(has_product=Exists(installed))
    if not is_fresh:
        cis = cis.filter(has_product=True)
    found: list[ConfigurationItem] = list(cis.only("pk", "name", "copy_of").order_by("pk")[: MOST_CIS + 1])
    if not found:
        raise ConditionRefused(
            _("No CI in operation with an agent runs %(product)s there. To install it anew, say so.")
            % {"product": version.product},
            code="no_target",
        )
    if len(found) > MOST_CIS:
        raise ConditionRefused(_("More than %(most)d CIs: plan a release with waves.") % {"most": MOST_CIS})
    return found


def _check_rfc(change: Change, version: Version, cis: list[ConfigurationItem]) -> None:
    if not change.products.filter(pk=version.product_id).exists():
        raise ConditionRefused(
            _("%(number)s is not about %(product)s.") % {"number": change.number, "product": version.product},
            code="rfc_scope",
        )
    affected = set(change.affected_cis.values_list("pk", flat=True))
    outside = [ci.name for ci in cis if ci.pk not in affected] if affected else []
    if outside:
        raise ConditionRefused(
            _("%(number)s does not name these CIs: %(cis)s.")
            % {"number": change.number, "cis": ", ".join(outside[:5])},
            code="rfc_scope",
        )


def _stand_on(
    template: StandardTemplate, approval: StandardTemplateApproval, release: Release, version: Version, now: datetime
) -> None:
    """The template's approval opens the gates that the CAB has decided on: the test, once passed, and the approval."""
    text = language.gettext("Standard change %(template)s, approved by %(person)s.") % {
        "template": template.number,
        "person": approval.approver,
    }
    gate = text
    if template.needs_test:
        proof = _passed_test(version)
        if proof is None:
            raise ConditionRefused(
                _("%(version)s has not passed a test on a copy, and %(template)s asks for one. Test it in a release.")
                % {"version": version, "template": template.name},
                code="not_tested",
            )
        passed = language.gettext("%(version)s has passed its test in %(release)s.")
        gate = f"{passed % {'version': version, 'release': proof}} {text}"
    content = release_hash(release)
    move_ticket(release, "except_test", actor=None, now=now, text=gate)
    accept(release, RolloutException.Kind.TEST_SKIPPED, actor=approval.approver, now=now, reason=gate)
    ReleaseApproval.objects.create(
        release=release, approver=approval.approver, decision=Decision.APPROVED, content_hash=content, comment=text,
        target_count=target_cis(release).count(), created_at=now,
    )  # fmt: skip
    record(release, kind=EntryKind.STATE, actor=None, now=now, text=text, to_state=release.state)


def _passed_test(version: Version) -> str | None:
    """The number of a release whose test passed with exactly this version; its files never change once it is ready."""
    passed = TestRun.objects.filter(state=TestRun.State.PASSED, release__items__version=version)
    run = passed.select_related("release").order_by("-pk").first()
    return run.release.number if run is not None else None


def waits_for(release: Release) -> str:
    """The gate that an ordered release stands before: `test`, `approval`, or nothing that people open."""
    if release.state != Release.State.READY:
        return "test"
    return "" if has_valid_approval(release) else "approval"
