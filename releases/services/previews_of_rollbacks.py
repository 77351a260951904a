"""Previews of the ways back, as `previews` shows them."""

from django.utils.translation import gettext as _

from distribution import services as distribution
from distribution.models import Batch, Deployment, DeploymentItem, DeploymentState, WayBack
from releases.models import Wave
from releases.services import rollbacks
from releases.services.failures import numbers_of_waves
from releases.services.preview_parts import Choice, Effect, Facts, Preview, effects_of, refusal_of
from tickets.exceptions import InvalidInput


def _back_effects(
    facts: Facts, batches: list[int], cis: list[int] | None = None, only_of: int | None = None
) -> list[Effect]:
    changed, lost = distribution.count_changed(facts.rollout.forward_batch_ids(), ci_ids=cis, only_of=only_of)
    back = Deployment.objects.filter(
        batch__wave__rollout=facts.rollout,
        batch__purpose=Batch.Purpose.ROLLBACK,
        state__in=[DeploymentState.SUCCEEDED, DeploymentState.SKIPPED],
        ci__in=Deployment.objects.filter(batch__in=batches).values("ci"),
    )
    were = back.filter(ci__in=cis).count() if cis is not None else back.count()
    counts = [facts.counts[batch] for batch in batches] if cis is None else []
    going = sum(c.offered + c.downloading + c.installing for c in counts)
    return effects_of(
        ("back", _("go back to what they ran before"), max(changed - lost - were, 0)),
        ("lost", _("have no way back, and are listed"), lost),
        ("cancelling", _("are under way: stopped, or taken back when they have ended"), going),
        ("cancelled", _("wait, and are cancelled"), sum(c.queued for c in counts)),
        ("were_back", _("are back already"), were),
    )


def _back(facts: Facts, verb: str, label: str, effects: list[Effect], refusal: str, *, is_done: bool) -> Preview:
    return Preview(
        verb,
        [Choice("", label, effects, _warnings(facts) if effects else [], refusal)],
        in_flight=_("What is being installed is stopped if its device agrees; else it ends first, and then goes back."),
        told=_("When it has ended: owners of the CIs and requesters whose tickets this release was to fix."),
        is_done=is_done,
    )


def roll_back(facts: Facts) -> Preview:
    batches = list(facts.counts)
    refusal = refusal_of(rollbacks.check_roll_back, facts.rollout, actor=facts.actor, now=facts.now)
    is_done = facts.rollout.state in rollbacks.GONE
    return _back(facts, "roll_back", _("Roll back"), _back_effects(facts, batches), refusal, is_done=is_done)


def roll_back_wave(facts: Facts) -> Preview:
    wave = facts.rollout.waves.filter(kind=Wave.Kind.FORWARD, number=facts.asked.get("wave") or 0).first()
    if wave is None:
        raise InvalidInput(_("Name the wave."), field="wave")
    refusal = refusal_of(rollbacks.check_roll_back_wave, facts.rollout, wave, actor=facts.actor, now=facts.now)
    effects = _back_effects(facts, [wave.batch_id], only_of=wave.batch_id)
    return _back(facts, "roll_back_wave", _("Roll back"), effects, refusal, is_done=wave.rollbacks.exists())


def roll_back_ci(facts: Facts) -> Preview:
    ci = facts.ci()
    refusal = refusal_of(rollbacks.check_roll_back_ci, facts.rollout, ci, actor=facts.actor, now=facts.now)
    effects = _back_effects(facts, list(facts.counts), [ci.pk])
    is_done = rollbacks.way_back_of(facts.rollout, ci) is not None
    if not effects and not is_done:
        refusal = refusal or _("%(ci)s did not get the package, so there is nothing to take back.") % {"ci": ci}
    return _back(facts, "roll_back_ci", _("Roll back"), effects, refusal, is_done=is_done)


def _warnings(facts: Facts) -> list[str]:
    """What a way back takes with it, and who has lost it meanwhile."""
    warnings = []
    batches = list(facts.counts)
    if DeploymentItem.objects.filter(deployment__batch__in=batches, way_back=WayBack.SNAPSHOT).exists():
        warnings.append(_("The CIs get the data of before the installation back: what they wrote since is lost."))
    got_it = [DeploymentState.SUCCEEDED, DeploymentState.CONFIRMING]
    lost = rollbacks.not_ready("from_version").filter(deployment__batch__in=batches, deployment__state__in=got_it)
    if count := lost.values("deployment__ci").distinct().count():
        text = _(
            "%d of them ran a version that is no longer ready in the media library: they are not offered it, stay as "
            "they are, and are listed."
        )
        warnings.append(text % count)
    return warnings


def continue_rollback(facts: Facts) -> Preview:
    """What becomes of rollbacks that were stopped, for each choice."""
    waves = list(rollbacks.stopped_waves(facts.rollout))
    counts = distribution.counts([wave.batch_id for wave in waves]).values()
    waiting, going = sum(c.queued for c in counts), sum(c.live for c in counts)
    lost = sum(numbers.failed for numbers in numbers_of_waves(waves).values()) if waves else 0
    refusal = refusal_of(rollbacks.check_continue, facts.rollout, actor=facts.actor)
    rest = ("back", _("wait, and go back to what they ran before"), waiting)
    under_way = ("under_way", _("are on their way back, and go on to their end"), going)
    stay = ("lost", _("failed, stay as they are, and are listed"), lost)
    again = ("retried", _("failed, and get one more attempt"), lost)
    left = ("left", _("wait, stay as they are, and are listed"), waiting)
    return Preview(
        "continue_rollback",
        [
            Choice(rollbacks.GO_ON, _("The rest goes back"), effects_of(rest, under_way, stay), refusal=refusal),
            Choice(
                rollbacks.RETRY, _("What failed is tried again, too"), effects_of(rest, again, under_way), [], refusal
            ),
            Choice(rollbacks.END, _("It ends here"), effects_of(left, stay, under_way), refusal=refusal),
        ],
        in_flight=_("What is on its way back is not interrupted, unless it ends here: then it is asked to stop."),
        told=_("When it has ended: owners of the CIs and requesters whose tickets this release was to fix."),
    )
