"""The same for programs: gauges in the text format of Prometheus."""

import secrets
from collections.abc import Iterable, Iterator

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from distribution.models import OPEN
from itsm_portal.operations import SEE, Operations, operations
from notifications.models import Outbox
from releases.models import Rollout
from tickets.clock import now_of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Samples = Iterable[tuple[dict[str, str], float]]


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """For the token of the settings (`Authorization: Bearer …`), and for people with the right; else 401."""
    if not _may_see(request):
        return HttpResponse("A token is needed.\n", status=401, headers={"WWW-Authenticate": "Bearer"})
    now = now_of(request).timestamp()
    text = "".join(_gauge(*gauge) for gauge in _gauges(operations(), now))
    return HttpResponse(text, content_type=CONTENT_TYPE)


def _may_see(request: HttpRequest) -> bool:
    scheme, _sep, given = request.headers.get("Authorization", "").partition(" ")
    if settings.METRICS_TOKEN and scheme.lower() == "bearer":
        return secrets.compare_digest(given.strip().encode(), settings.METRICS_TOKEN.encode())
    return request.user.is_authenticated and request.user.has_perm(SEE)


def _gauge(name: str, text: str, samples: Samples) -> str:
    lines = [f"# HELP itsm_{name} {text}", f"# TYPE itsm_{name} gauge"]
    lines += [f"itsm_{name}{_labels(labels)} {value:g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: dict[str, str]) -> str:
    def quoted(value: str) -> str:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    return "{" + ",".join(f'{key}="{quoted(value)}"' for key, value in labels.items()) + "}" if labels else ""


def _gauges(found: Operations, now: float) -> Iterator[tuple[str, str, Samples]]:
    def by(counts: dict[str, int], states: Iterable[str]) -> Samples:
        return [({"state": str(state)}, counts.get(state, 0)) for state in states]

    if found.check is not None:
        yield "invariant_violations", "Violations that the last self-check found.", [({}, len(found.check.violations))]
        yield "self_check_finished", "Whether the last self-check came to its end.", [({}, not found.check.error)]
        yield "self_check_age_seconds", "Since the last self-check.", [({}, now - found.check.started_at.timestamp())]
        yield "self_check_seconds", "What the last self-check took.", [({}, found.check.seconds)]
    yield "rollouts_unsettled", "Rollouts that are not settled.", by(found.rollout_counts, Rollout.State)
    yield "deployments_open", "Deployments that have not ended.", by(found.deployments, OPEN)
    mails = (Outbox.State.PENDING, Outbox.State.DEAD)
    yield "mails", "Mails that wait, and mails that were given up.", by(found.mails, mails)
    oldest = 0.0 if found.oldest_mail is None else now - found.oldest_mail.timestamp()
    yield "mail_oldest_waiting_seconds", "Age of the oldest mail that waits.", [({}, oldest)]
    yield "heartbeats_readable", "Whether Valkey tells of ticks and workers.", [({}, found.works is not None)]
    signs = [(work.name, work.beat) for work in found.works or [] if work.beat is not None]
    yield "tick_age_seconds", "Since a periodic work ended.", [({"tick": name}, sign.age) for name, sign in signs]
    took = [({"tick": name}, sign.seconds) for name, sign in signs if sign.seconds is not None]
    yield "tick_seconds", "What a periodic work took.", took
    workers = [({"worker": sign.name}, sign.age) for sign in found.workers or []]
    yield "worker_age_seconds", "Since a worker's last sign of life.", workers
