"""Asking a CI whether what it runs is well: the health check of its packages, run by its agent or by a push run.

Nobody sends a command: what is run came with the version that runs. A request is a number; an agent that knows it
answers with its attributes (`health.request`, `health.<product>`), a host without an agent by a play that only reads.
"""

from collections.abc import Mapping
from datetime import datetime

from django.db import transaction

from cmdb.models import ConfigurationItem
from distribution.models import Deployment, HealthCheck

REQUEST = "health.request"
_PREFIX = "health."
Outcome = HealthCheck.Outcome


def ask(deployment: Deployment, *, now: datetime, due_at: datetime) -> HealthCheck | None:
    """Asks the CI of this deployment about the products that it brought; None: it is being asked already."""
    with transaction.atomic():
        ConfigurationItem.objects.select_for_update(no_key=True).only("pk").get(pk=deployment.ci_id)
        if HealthCheck.objects.filter(ci=deployment.ci_id, outcome="").exists():
            return None
        check = HealthCheck.objects.create(ci_id=deployment.ci_id, deployment=deployment, asked_at=now, due_at=due_at)
        devices = ConfigurationItem.objects.filter(pk=deployment.ci_id, channel=ConfigurationItem.Channel.DDI)
        devices.update(health_request=check.pk)
    return check


def take_answer(ci: ConfigurationItem, said: Mapping[str, str | None], *, now: datetime) -> bool:
    """What an agent says about a request; once, in time, and only about its own. False: nobody had asked that."""
    number = said.get(REQUEST) or ""
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        return False
    check = HealthCheck.objects.filter(pk=int(number), ci=ci.pk, outcome="", due_at__gt=now).first()
    if check is None:
        return False
    products = check.deployment.items.filter(to_version__isnull=False).values_list("product__slug", flat=True)
    words = {slug: said.get(f"{_PREFIX}{slug}") or "" for slug in products}
    bad = [f"{slug}: {word}" for slug, word in sorted(words.items()) if word.startswith("fail")]
    if bad:
        return finish(check, Outcome.FAIL, "; ".join(bad), now=now)
    if "pass" in words.values() and set(words.values()) <= {"pass", "none"}:
        return finish(check, Outcome.PASS, "", now=now)
    text = "; ".join(f"{slug}: {word or '–'}" for slug, word in sorted(words.items()))
    return finish(check, Outcome.INCONCLUSIVE, text, now=now)


def finish(check: HealthCheck, outcome: str, detail: str, *, now: datetime) -> bool:
    """Writes the answer once; the device is asked no longer."""
    is_open = HealthCheck.objects.filter(pk=check.pk, outcome="")
    written = is_open.update(outcome=outcome, detail=detail.replace("\0", "")[:200], answered_at=now)
    ConfigurationItem.objects.filter(pk=check.ci_id, health_request=check.pk).update(health_request=None)
    return bool(written)


def expire(*, now: datetime) -> int:
    """Ends the requests that nobody answered in time; how many."""
    late = list(HealthCheck.objects.filter(outcome="", due_at__lte=now).order_by("pk")[:500])
    return sum(finish(check, Outcome.INCONCLUSIVE, "no answer in time", now=now) for check in late)
