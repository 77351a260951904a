"""The first step of a rollout: its targets become one deployment each, in chunks; the list never changes afterwards."""

from datetime import datetime

from django.db.models import Exists, OuterRef, QuerySet

from cmdb.models import ConfigurationItem
from distribution import services as distribution
from distribution.models import Deployment
from failpoints import failpoint
from releases.models import Rollout, RolloutEvent, Wave
from releases.policy import RolloutPolicy
from releases.selector import TargetSelector
from releases.services.log import cis_text, log
from releases.targets import target_cis
from releases.wave_plan import condition_of
from tickets.lifecycle import move
from tickets.services import content_hash

FREEZE_CHUNK = 5000


def freeze(rollout: Rollout, now: datetime) -> bool:
    """Writes the next chunk of deployments. The waves are filled one after the other, each in the order of the ids."""
    waves = list(rollout.waves.filter(kind=Wave.Kind.FORWARD).select_related("batch").order_by("number"))
    have = distribution.counts([wave.batch_id for wave in waves])
    wave = next((wave for wave in waves if wave.number >= rollout.freeze_wave), waves[-1])
    is_last = wave is waves[-1]
    takes_all = is_last or condition_of(wave.rule) is not None
    room = FREEZE_CHUNK if takes_all else min(FREEZE_CHUNK, wave.size - have[wave.batch_id].total)
    left = _left_for(rollout, wave, [one.batch_id for one in waves], is_last=is_last)
    cis = list(left.values_list("pk", flat=True)[: max(0, room)])
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
        _mark(rollout, wave.number, cis[-1], now)
        return True
    if not is_last:
        _mark(rollout, wave.number + 1, 0, now)
        return True
    _finish(rollout, waves, now)
    return True


def _left_for(rollout: Rollout, wave: Wave, batches: list[int], *, is_last: bool) -> QuerySet[ConfigurationItem]:
    """Targets that fit the wave and are in none yet. The last wave takes whoever is left, so that nobody is lost."""
    frozen = Deployment.objects.filter(batch__in=batches, ci=OuterRef("pk"))
    left = target_cis(rollout.release).filter(~Exists(frozen), pk__gt=rollout.freeze_mark)
    condition = None if is_last else condition_of(wave.rule)
    return left if condition is None else left.filter(condition)


def _mark(rollout: Rollout, wave: int, ci: int, now: datetime) -> None:
    Rollout.objects.filter(pk=rollout.pk).update(freeze_wave=wave, freeze_mark=ci, updated_at=now)


def _finish(rollout: Rollout, waves: list[Wave], now: datetime) -> None:
    have = distribution.counts([wave.batch_id for wave in waves])
    for wave in waves:
        if wave.size != have[wave.batch_id].total:
            Wave.objects.filter(pk=wave.pk).update(size=have[wave.batch_id].total)
    frozen = list(
        Deployment.objects.filter(batch__in=[wave.batch_id for wave in waves], attempt=1)
        .order_by("ci_id")
        .values_list("ci", flat=True)
    )
    update = {"frozen_at": now, "target_count": len(frozen), "target_hash": content_hash({"cis": frozen})}
    move(rollout, "run", actor=None, now=now, update=update)
    log(rollout, RolloutEvent.Kind.FROZEN, now=now, text=cis_text(len(frozen)))
