"""Counts come from indexes; they are the same as when every deployment is looked at."""

import random
from collections import Counter
from datetime import timedelta

import pytest

from distribution import services
from distribution.models import OPEN, TERMINAL, Deployment
from tests.distribution.fleet import make_batch, make_fleet, queue, two_versions
from tests.factories import NOW

pytestmark = pytest.mark.django_db


def one_by_one(batch: int) -> Counter[str]:
    """The state of the highest attempt of each CI, and how many of those that are open are overdue."""
    newest: dict[int, Deployment] = {}
    for deployment in Deployment.objects.filter(batch=batch).order_by("attempt"):
        newest[deployment.ci_id] = deployment
    found = Counter(str(deployment.state) for deployment in newest.values())
    found["overdue"] = sum(d.state in OPEN and d.overdue_at is not None for d in newest.values())
    found["total"] = len(newest)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_the_highest_attempts(seed: int) -> None:
    dice = random.Random(seed)
    billing, _, new = two_versions()
    cis = make_fleet(20, billing, "1.0")
    batches = [make_batch(), make_batch("ROL-0000002")]
    for batch, some in zip(batches, (cis[:12], cis[12:]), strict=True):
        queue(batch, some, new)
        for ci in some:
            for attempt in range(2, dice.choice([2, 2, 3, 5])):
                Deployment.objects.create(
                    batch=batch, ci=ci, attempt=attempt, state="failed", created_at=NOW, moved_at=NOW, finished_at=NOW
                )
    for deployment in Deployment.objects.all():
        state = dice.choice([*map(str, OPEN), *map(str, TERMINAL)])
        later = Deployment.objects.filter(
            batch=deployment.batch_id, ci=deployment.ci_id, attempt__gt=deployment.attempt
        )
        if later.exists():
            state = dice.choice(["failed", "excluded"])
        has_ended = state in TERMINAL
        Deployment.objects.filter(pk=deployment.pk).update(
            state=state,
            finished_at=NOW if has_ended else None,
            # What has ended may have been overdue before.
            overdue_at=dice.choice([None, NOW]),
            moved_at=NOW + timedelta(seconds=dice.randrange(100)),
        )

    found = services.counts([batch.pk for batch in batches])

    for batch in batches:
        said = {name: number for name in one_by_one(batch.pk) if (number := getattr(found[batch.pk], name))}
        assert said == {name: number for name, number in one_by_one(batch.pk).items() if number}
        ended = Deployment.objects.filter(batch=batch, finished_at__isnull=False).count()
        assert services.ended([batch.pk]) == ended
    assert services.ended([]) == 0


def test_a_batch_knows_what_it_brings() -> None:
    billing, _, new = two_versions()
    shop, _, shop_new = two_versions("shop")
    cis = make_fleet(2, billing, "1.0")
    batch = services.create_batch(label="ROL-0000009", purpose="forward", now=NOW)
    assert batch.versions == []

    for ci in cis:
        services.queue_deployments(batch, ci_ids=[ci.pk], package=[(billing.pk, new.pk, 1)], now=NOW)
    package = [(shop.pk, shop_new.pk, 1), (billing.pk, new.pk, 2)]
    fresh = {cis[0].pk: [shop.pk]}
    services.queue_deployments(batch, ci_ids=[cis[0].pk], package=package, fresh=fresh, now=NOW)
    batch.refresh_from_db()
    assert batch.versions == [new.pk], "the third one was there already"

    other = services.create_batch(label="ROL-0000010", purpose="forward", now=NOW)
    services.queue_deployments(other, ci_ids=[ci.pk for ci in cis], package=package, fresh=fresh, now=NOW)
    other.refresh_from_db()
    assert sorted(other.versions) == sorted([new.pk, shop_new.pk])
