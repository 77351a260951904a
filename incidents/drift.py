"""Drift → incident: what a rule asks for is opened, once for each CI and product; a note says when the drift is over.

The rows of `cmdb` and of the rules are all there is to know, so a tick may be missed, repeated or interrupted.
"""

from datetime import datetime

from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from cmdb.models import ConfigurationItem, Drift
from incidents.models import DriftIncident, DriftRule, Incident
from incidents.services import note_on_incident, open_incident_for_portal
from tickets.text import as_data

# How many drifts one tick handles at most, of each kind.
CHUNK = 100


def advance_drift_incidents(*, now: datetime, limit: int = CHUNK) -> int:
    """Opens incidents for new drifts and notes ended ones, at most `limit` of each; returns how many it wrote."""
    return _open(now, limit) + _tell(now, limit)


def _open(now: datetime, limit: int) -> int:
    rules = list(DriftRule.objects.filter(is_active=True).select_related("requester", "team").order_by("pk"))
    if not rules:
        return 0
    fits = Q()
    for rule in rules:
        fits |= _fits(rule)
    drifts = Drift.objects.filter(fits, ended_at__isnull=True, incident_link__isnull=True, ci__copy_of__isnull=True)
    opened = 0
    for key in list(drifts.order_by("pk").values_list("pk", flat=True)[:limit]):
        with transaction.atomic():
            opened += _open_one(key, rules, now)
    return opened


def _fits(rule: DriftRule) -> Q:
    # Always true where the rule names neither.
    condition = Q(pk__isnull=False)
    if rule.product_id is not None:
        condition &= Q(product=rule.product_id)
    if rule.ci_class_id is not None:
        condition &= Q(ci__ci_class=rule.ci_class_id)
    return condition


def _open_one(key: int, rules: list[DriftRule], now: datetime) -> int:
    drift = Drift.objects.select_for_update(skip_locked=True, of=("self",)).filter(pk=key, ended_at=None).first()
    if drift is None or DriftIncident.objects.filter(drift=drift).exists():
        return 0
    # Two drifts of one CI and product are never handled at the same time: the CI's row is the lock.
    ConfigurationItem.objects.select_for_update(no_key=True).only("pk").get(pk=drift.ci_id)
    ci = ConfigurationItem.objects.select_related("owner").get(pk=drift.ci_id)
    rule = _rule_for(drift, ci, rules)
    if rule is None:
        return 0
    incident = _open_incident_of(drift)
    words = {
        "ci": ci.name,
        "product": drift.product.name,
        "expected": _said(drift.expected),
        "reported": _said(drift.reported),
    }
    text = (
        _("%(ci)s reports %(product)s: %(reported)s; %(expected)s was expected, and no deployment explains it.") % words
    )
    if incident is None:
        incident = open_incident_for_portal(
            now=now,
            title=(_("Drift of %(product)s on %(ci)s") % words)[:200],
            description=text,
            ci=ci,
            impact=rule.impact,
            urgency=rule.urgency,
            requester=ci.owner if ci.owner is not None and ci.owner.is_active else rule.requester,
            team=rule.team,
        )
    else:
        note_on_incident(incident, now=now, key=f"drift:{drift.pk}", text=text)
    DriftIncident.objects.create(drift=drift, incident=incident)
    return 1


def _said(label: str) -> str:
    return as_data(label) if label else _("nothing")


def _rule_for(drift: Drift, ci: ConfigurationItem, rules: list[DriftRule]) -> DriftRule | None:
    fitting = [
        rule
        for rule in rules
        if rule.product_id in (None, drift.product_id) and rule.ci_class_id in (None, ci.ci_class_id)
    ]
    return min(fitting, key=lambda r: (r.product_id is None, r.ci_class_id is None, r.pk), default=None)


def _open_incident_of(drift: Drift) -> Incident | None:
    """The incident of an earlier drift of this CI and product that is still open."""
    links = DriftIncident.objects.filter(drift__ci=drift.ci_id, drift__product=drift.product_id)
    return Incident.objects.open().filter(pk__in=links.values("incident")).order_by("-pk").first()


def _tell(now: datetime, limit: int) -> int:
    over = DriftIncident.objects.filter(is_told=False, drift__ended_at__isnull=False).order_by("pk")
    told = 0
    for key in list(over.values_list("pk", flat=True)[:limit]):
        with transaction.atomic():
            rows = DriftIncident.objects.select_for_update(skip_locked=True, of=("self",)).filter(is_told=False)
            link = rows.select_related("drift", "incident").filter(pk=key).first()
            if link is None:
                continue
            text = _("The drift is over: %(end)s. It runs %(reported)s.") % {
                "end": link.drift.get_end_display(),
                "reported": _said(link.drift.reported),
            }
            note_on_incident(link.incident, now=now, key=f"drift:{link.drift_id}:over", text=text)
            DriftIncident.objects.filter(pk=key).update(is_told=True)
            told += 1
    return told
