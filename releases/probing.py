"""Asks the probes of soaking waves: one short transaction claims a sample, the call is made outside of any, another one
writes the answer. What CIs check comes back by their channel. The tick decides on the stored samples only."""

import asyncio
import socket
from datetime import datetime, timedelta

import httpx
from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils.translation import gettext as _

from distribution import health
from distribution.models import Deployment, DeploymentState, HealthCheck
from releases.models import ProbeSample, Rollout, Wave
from releases.policy import RolloutPolicy
from releases.probes import is_allowed
from tickets.clock import database_now

# A worker asks so many in a row at most, so that its time limit is far.
MOST_SAMPLES = 10
# An answer that comes later than this after its timeout is not believed: its worker was away.
LEASE = timedelta(seconds=30)
Outcome = ProbeSample.Outcome
_NO_ANSWER = (TimeoutError, httpx.ConnectError, httpx.TimeoutException, httpx.RemoteProtocolError, httpx.ReadError)


def take_samples() -> int:
    """Asks what is due now, and takes in what CIs have answered; how many samples were asked for."""
    taken = 0
    _collect(now=database_now())
    for key in list(_probed_waves()):
        while taken < MOST_SAMPLES and (claimed := _claim(key, now=database_now())) is not None:
            sample, probe = claimed
            if "url" in probe:
                outcome, detail = ask(probe)
                _store(sample, outcome, detail, timeout=probe["timeout"], now=database_now())
            taken += 1
    return taken


def _collect(*, now: datetime) -> None:
    """Copies the answers of CIs, and ends the questions whose time is over."""
    health.expire(now=now)
    open_samples = ProbeSample.objects.filter(outcome="", health_check__isnull=False)
    for sample in open_samples.exclude(health_check__outcome="").select_related("health_check__ci")[:500]:
        check = sample.health_check
        assert check is not None
        ProbeSample.objects.filter(pk=sample.pk, outcome="").update(
            outcome=check.outcome, detail=f"{check.ci.name}: {check.detail or check.outcome}"[:200], answered_at=now
        )


def _probed_waves() -> list[int]:
    soaking = Wave.objects.filter(kind=Wave.Kind.FORWARD, state=Wave.State.SOAKING)
    running = soaking.filter(rollout__state=Rollout.State.RUNNING, rollout__policy__has_key="probes")
    # In any order, so that waves whose probes hang leave time for the others.
    return list(running.order_by("?").values_list("pk", flat=True))


def _claim(key: int, *, now: datetime) -> tuple[ProbeSample, dict[str, object]] | None:
    """A new sample of the first probe that is due; the rollout's lock lets one worker at a time decide that."""
    with transaction.atomic():
        rollout = Rollout.objects.select_for_update(skip_locked=True, of=("self",)).filter(waves=key).first()
        if rollout is None or rollout.state != Rollout.State.RUNNING:
            return None
        wave = Wave.objects.get(pk=key)
        if wave.state != Wave.State.SOAKING:
            return None
        for position, probe in enumerate(RolloutPolicy.from_json(rollout.policy).probes, start=1):
            asked = ProbeSample.objects.filter(wave=wave, position=position, round=rollout.round)
            if asked.filter(asked_at__gt=now - timedelta(seconds=probe["every"])).exists():
                continue
            check = None
            if "check" in probe:
                due_at = now + timedelta(seconds=probe["timeout"])
                newest = asked.order_by("-pk").values_list("health_check__deployment", flat=True).first()
                check = _ask_next(wave, after=newest or 0, now=now, due_at=due_at)
                if check is None:
                    continue
            sample = ProbeSample.objects.create(
                wave=wave, position=position, round=rollout.round, asked_at=now, health_check=check
            )
            return sample, dict(probe)
    return None


def _ask_next(wave: Wave, *, after: int, now: datetime, due_at: datetime) -> HealthCheck | None:
    """Asks the next CI of the wave that has the package and is not being asked, in turn; None: there is none."""
    done = Deployment.objects.filter(batch=wave.batch_id, state=DeploymentState.SUCCEEDED)
    free = done.exclude(Exists(HealthCheck.objects.filter(ci=OuterRef("ci"), outcome=""))).order_by("pk")
    chosen = free.filter(pk__gt=after).first() or free.first()
    return health.ask(chosen, now=now, due_at=due_at) if chosen is not None else None


def _store(sample: ProbeSample, outcome: str, detail: str, *, timeout: object, now: datetime) -> None:
    """Once, and only while the claim holds."""
    oldest = now - timedelta(seconds=float(str(timeout))) - LEASE
    ProbeSample.objects.filter(pk=sample.pk, outcome="", asked_at__gt=oldest).update(
        outcome=outcome, detail=detail[:200], answered_at=now
    )


async def _status_of(url: str, timeout: float) -> int:
    """The status of the answer, within so many seconds in all: also of one that comes byte by byte for ever."""
    async with (
        asyncio.timeout(timeout),
        httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False) as client,
        client.stream("GET", url, headers={"User-Agent": "itsm-portal-probe"}) as answer,
    ):
        return answer.status_code


def ask(probe: dict[str, object]) -> tuple[str, str]:
    """Calls the probe's address: pass, fail or inconclusive, and why. Follows no redirect, reads no body.

    What does not answer has failed; what the portal could not ask is inconclusive.
    """
    url = str(probe["url"])
    if not is_allowed(url):
        return Outcome.INCONCLUSIVE, _("not allowed")
    try:
        socket.getaddrinfo(httpx.URL(url).host, None)  # a name that nobody knows says nothing about the package
        status = asyncio.run(_status_of(url, float(str(probe["timeout"]))))
    except _NO_ANSWER as error:
        return Outcome.FAIL, type(error).__name__
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        return Outcome.INCONCLUSIVE, type(error).__name__
    return (Outcome.PASS, str(status)) if status == probe["status"] else (Outcome.FAIL, str(status))
