"""The first step of a rollout: its targets become one deployment each, in chunks; the list never changes afterwards."""

from datetime import datetime

from django.db import connection

from distribution import services as distribution
from distribution import steps
from distribution.models import Deployment
from failpoints import failpoint
from releases.models import Rollout, RolloutEvent, Wave
from releases.policy import RolloutPolicy
from releases.selector import TargetSelector
from releases.services.log import cis_text, log, wait_for
from releases.targets import check_groups, target_cis
from releases.wave_plan import check_wave_groups, condition_of
from tickets.exceptions import ConditionRefused
from tickets.lifecycle import move

# How many CIs, and `tickets.services.content_hash({"cis": [their ids]})`.
_FROZEN = """
SELECT count(*), encode(sha256(convert_to(
    '{"cis":[' || coalesce(string_agg(ci_id::text, ',' ORDER BY ci_id), '') || ']}', 'UTF8')), 'hex')
FROM distribution_deployment WHERE batch_id = ANY(%s) AND attempt = 1
"""


def freeze(rollout: Rollout, now: datetime) -> bool:
    """Writes the next chunk of deployments. The waves are filled one after the other, each in the order of the ids.

    Nobody whom the approval did not mean: a group that was defined anew since the start stops it, until it is aborted.
    """
    try:
        check_groups(rollout.release)
        check_wave_groups(rollout.release)
    except ConditionRefused as refusal:
        return wait_for(rollout, refusal.message, now)
    waves = list(rollout.waves.filter(kind=Wave.Kind.FORWARD).select_related("batch").order_by("number"))
    wave = next((wave for wave in waves if wave.number >= rollout.freeze_wave), waves[-1])
    is_last = wave is waves[-1]
    chunk = _next_targets(rollout, wave, is_last=is_last) if _has_room(wave, is_last=is_last) else []
    if not chunk:
        if is_last:
            _finish(rollout, waves, now)
        else:
            _mark(rollout, wave.number + 1, 0, now)
        return True
    earlier = [one.batch_id for one in waves if one.number < wave.number]
    taken = Deployment.objects.filter(batch__in=earlier, ci__gte=chunk[0], ci__lte=chunk[-1])
    frozen = set(taken.values_list("ci", flat=True))
    cis, mark = [ci for ci in chunk if ci not in frozen], chunk[-1]
    if not _takes_all(wave, is_last=is_last) and (room := wave.size - _total(wave)) < len(cis):
        cis = cis[:room]
        mark = cis[-1]
    if cis:
        items = list(rollout.release.items.all())
        selector = TargetSelector.from_json(rollout.targets)
        distribution.queue_deployments(
            wave.batch,
            ci_ids=cis,
            package=[(item.product_id, item.version_id, item.position) for item in items],
            fresh=dict(selector.fresh),
            ways_back={item.product_id: item.way_back for item in items},
            or_reinstall=RolloutPolicy.from_json(rollout.policy).or_reinstall,
            again=selector.again,
            now=now,
        )
        failpoint("freeze.written")
    _mark(rollout, wave.number, mark, now)
    return True


def _takes_all(wave: Wave, *, is_last: bool) -> bool:
    """Whether it takes everybody who fits; the last wave takes whoever is left, so that nobody is lost."""
    return is_last or condition_of(wave.rule) is not None


def _has_room(wave: Wave, *, is_last: bool) -> bool:
    return _takes_all(wave, is_last=is_last) or _total(wave) < wave.size


def _total(wave: Wave) -> int:
    return Deployment.objects.filter(batch=wave.batch_id).count()


def _next_targets(rollout: Rollout, wave: Wave, *, is_last: bool) -> list[int]:
    """The next targets that fit the wave, by id; some may be in an earlier one."""
    targets = target_cis(rollout.release, after=rollout.freeze_mark)
    condition = None if is_last else condition_of(wave.rule)
    fitting = targets if condition is None else targets.filter(condition)
    return list(fitting.values_list("pk", flat=True)[: steps.CHUNK])


def _mark(rollout: Rollout, wave: int, ci: int, now: datetime) -> None:
    Rollout.objects.filter(pk=rollout.pk).update(freeze_wave=wave, freeze_mark=ci, updated_at=now)


def _finish(rollout: Rollout, waves: list[Wave], now: datetime) -> None:
    have = distribution.counts([wave.batch_id for wave in waves])
    for wave in waves:
        if wave.size != have[wave.batch_id].total:
            Wave.objects.filter(pk=wave.pk).update(size=have[wave.batch_id].total)
    with connection.cursor() as cursor:
        cursor.execute(_FROZEN, [[wave.batch_id for wave in waves]])
        number, digest = cursor.fetchone()
    move(rollout, "run", actor=None, now=now, update={"frozen_at": now, "target_count": number, "target_hash": digest})
    log(rollout, RolloutEvent.Kind.FROZEN, now=now, text=cis_text(number))
