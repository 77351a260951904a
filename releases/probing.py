"""Asks the probes of soaking waves: one short transaction claims a sample, the call is made outside of any, another one
writes the answer. The tick decides on the stored samples only."""

import socket
from datetime import datetime, timedelta

import httpx
from django.db import transaction
from django.utils.translation import gettext as _

from releases.models import ProbeSample, Rollout, Wave
from releases.policy import RolloutPolicy
from releases.probes import is_allowed
from tickets.clock import database_now

# A worker asks so many in a row at most, so that its time limit is far.
MOST_SAMPLES = 10
# An answer that comes later than this after its timeout is not believed: its worker was away.
LEASE = timedelta(seconds=30)
Outcome = ProbeSample.Outcome


def take_samples() -> int:
    """Asks what is due now; how many were answered."""
    taken = 0
    for key in list(_probed_waves()):
        while taken < MOST_SAMPLES and (claimed := _claim(key, now=database_now())) is not None:
            sample, probe = claimed
            outcome, detail = ask(probe)
            _store(sample, outcome, detail, timeout=probe["timeout"], now=database_now())
            taken += 1
    return taken


def _probed_waves() -> list[int]:
    soaking = Wave.objects.filter(kind=Wave.Kind.FORWARD, state=Wave.State.SOAKING)
    running = soaking.filter(rollout__state=Rollout.State.RUNNING, rollout__policy__has_key="probes")
    return list(running.order_by("pk").values_list("pk", flat=True))


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
            if not asked.filter(asked_at__gt=now - timedelta(seconds=probe["every"])).exists():
                sample = ProbeSample.objects.create(wave=wave, position=position, round=rollout.round, asked_at=now)
                return sample, dict(probe)
    return None


def _store(sample: ProbeSample, outcome: str, detail: str, *, timeout: object, now: datetime) -> None:
    """Once, and only while the claim holds."""
    oldest = now - timedelta(seconds=float(str(timeout))) - LEASE
    ProbeSample.objects.filter(pk=sample.pk, outcome="", asked_at__gt=oldest).update(
        outcome=outcome, detail=detail[:200], answered_at=now
    )


def ask(probe: dict[str, object]) -> tuple[str, str]:
    """Calls the probe's address: pass, fail or inconclusive, and why. Follows no redirect, reads no body.

    What does not answer has failed; what the portal could not ask is inconclusive.
    """
    url = str(probe["url"])
    if not is_allowed(url):
        return Outcome.INCONCLUSIVE, _("not allowed")
    try:
        socket.getaddrinfo(httpx.URL(url).host, None)  # a name that nobody knows says nothing about the package
        timeout = float(str(probe["timeout"]))
        with (
            httpx.Client(timeout=timeout, follow_redirects=False, trust_env=False) as client,
            client.stream("GET", url, headers={"User-Agent": "itsm-portal-probe"}) as answer,
        ):
            status = answer.status_code
    except (httpx.ConnectError, httpx.TimeoutException, httpx.RemoteProtocolError, httpx.ReadError) as error:
        return Outcome.FAIL, type(error).__name__
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        return Outcome.INCONCLUSIVE, type(error).__name__
    return (Outcome.PASS, str(status)) if status == probe["status"] else (Outcome.FAIL, str(status))
