"""The first step of a rollout: its targets become one deployment each, in chunks; the list never changes afterwards."""

from datetime import datetime

from distribution import services as distribution
from distribution.models import Deployment
from releases.models import Rollout, RolloutEvent, Wave
from releases.selector import TargetSelector
from releases.services.log import cis_text, log
from releases.targets import target_cis
from tickets.lifecycle import move
from tickets.services import content_hash

FREEZE_CHUNK = 5000


def freeze(rollout: Rollout, now: datetime) -> bool:
    """Writes the next chunk of deployments; the waves fill up in the order of the CIs' ids."""
    waves = list(rollout.waves.filter(kind=Wave.Kind.FORWARD).select_related("batch").order_by("number"))
    have = distribution.counts([wave.batch_id for wave in waves])
    open_waves = [wave for wave in waves if have[wave.batch_id].total < wave.size or wave is waves[-1]]
    wave = open_waves[0]
    room = FREEZE_CHUNK if wave is waves[-1] else min(FREEZE_CHUNK, wave.size - have[wave.batch_id].total)
    targets = target_cis(rollout.release).filter(pk__gt=rollout.freeze_mark)
    cis = list(targets.values_list("pk", flat=True)[:room])
    if cis:
        package = list(rollout.release.items.values_list("product_id", "version_id", "position"))
        fresh = TargetSelector.from_json(rollout.targets).fresh
        distribution.queue_deployments(wave.batch, ci_ids=cis, package=package, fresh=dict(fresh), now=now)
        Rollout.objects.filter(pk=rollout.pk).update(freeze_mark=cis[-1], updated_at=now)
        return True
    frozen = list(
        Deployment.objects.filter(batch__in=[w.batch_id for w in waves], attempt=1)
        .order_by("ci_id")
        .values_list("ci", flat=True)
    )
    for wave in waves:
        if wave.size != have[wave.batch_id].total:
            Wave.objects.filter(pk=wave.pk).update(size=have[wave.batch_id].total)
    update = {"frozen_at": now, "target_count": len(frozen), "target_hash": content_hash({"cis": frozen})}
    move(rollout, "run", actor=None, now=now, update=update)
    log(rollout, RolloutEvent.Kind.FROZEN, now=now, text=cis_text(len(frozen)))
    return True
