"""Whether everything that a release's rollout needs is signed, and what has to be signed yet.

Needed are a release manifest of each version of the package and of each version that its targets run, and a rollback
decision for each step to a lower counter: the way back from each target, and for those that got it fresh, the removal.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import F, Q
from django.utils.translation import gettext as _

from cmdb.models import InstalledVersion
from distribution.models import DeploymentItem, DeploymentState
from releases.models import Release, Rollout, TestPolicy
from releases.selector import TargetSelector
from releases.targets import target_cis
from software.models import Version
from software.models.signatures import way_back
from software.signatures import propose_counters, request_for, signed_versions, signed_ways_back
from tickets.exceptions import ConditionRefused

# How many missing signatures a refusal names.
NAMED = 20
Pair = tuple[Version, Version | None]


@dataclass(frozen=True, slots=True)
class Missing:
    """What is not signed, no longer trusted, or expires too early."""

    manifests: list[Version]
    ways_back: list[Pair]

    def __bool__(self) -> bool:
        return bool(self.manifests or self.ways_back)

    def lines(self) -> list[str]:
        """Each in words, for people."""
        return [_("release manifest of %s") % version for version in self.manifests] + [
            _("rollback decision %s") % way_back(origin, target) for origin, target in self.ways_back
        ]


def missing_signatures(release: Release, *, now: datetime) -> Missing:
    """What is missing for the rollout to start now, in a few queries however many targets there are.

    Decisions have to be good until the end of early life support.
    """
    package = {item.product_id: item.version for item in _items(release)}
    before = _versions_before(release, package)
    versions = {version.pk: version for version in [*package.values(), *before]}
    counters = propose_counters(sorted(versions.values(), key=lambda version: (version.product_id, version.order)))
    pairs: list[Pair] = [(package[product], None) for product in _fresh_products(release, set(package))]
    for old in before:
        new = package[old.product_id]
        pairs.append((new, old) if counters[old.pk] < counters[new.pk] else (old, new))
    signed = signed_versions(versions, now=now)
    there = signed_ways_back(versions, until=now + timedelta(days=_early_life_days(release)))
    # Where a decision names the version, its date counts, not the manifest's.
    named = {target.pk for _origin, target in pairs if target is not None}
    return Missing(
        manifests=[v for v in versions.values() if not (signed.get(v.pk) or (v.pk in signed and v.pk in named))],
        ways_back=[(a, b) for a, b in pairs if (a.pk, b.pk if b is not None else None) not in there],
    )


def _versions_before(release: Release, package: dict[int, Version]) -> list[Version]:
    """Other versions of its products that its targets run, as far as they could go back to them."""
    running = InstalledVersion.objects.filter(
        valid_to__isnull=True, product__in=list(package), ci__in=target_cis(release).order_by().values("pk")
    ).exclude(version__in=[version.pk for version in package.values()])
    ids = running.filter(version__state=Version.State.READY).values("version")
    return list(
        Version.objects.select_related("product")
        .prefetch_related("artifacts")
        .filter(pk__in=ids)
        .order_by("product", "order")
    )


def _items(release: Release) -> Any:
    return release.items.select_related("version__product").prefetch_related("version__artifacts")


def _fresh_products(release: Release, package: set[int]) -> list[int]:
    """Products of the package that some target gets for the first time."""
    fresh = TargetSelector.from_json(release.targets).fresh
    return sorted(package & {product for products in fresh.values() for product in products})


def _early_life_days(release: Release) -> int:
    policy = TestPolicy.objects.filter(release_type=release.release_type).first()
    return (policy or TestPolicy()).early_life_days


def check_signed(release: Release, *, now: datetime, ways_back: bool = True) -> None:
    """Refuses while something that the rollout needs is not signed, and lists it; without `ways_back` only the
    package's own manifests count. Nothing is needed while signatures are not required.
    """
    if not settings.REQUIRE_SIGNATURES:
        return
    missing = missing_signatures(release, now=now)
    if not ways_back:
        package = set(release.items.values_list("version", flat=True))
        missing = Missing([version for version in missing.manifests if version.pk in package], [])
    if not missing:
        return
    lines = missing.lines()
    what = "; ".join(lines[:NAMED])
    if len(lines) > NAMED:
        what = _("%(what)s and %(count)d more") % {"what": what, "count": len(lines) - NAMED}
    raise ConditionRefused(
        _(
            "Not signed, expired, or signed with a key that no longer counts: %(what)s. Export the signing "
            "request of %(number)s, have the key holder sign it, and upload the result."
        )
        % {"what": what, "number": release.number},
        code="signatures_missing",
        detail={"missing": lines},
    )


def check_ways_back(rollout: Rollout, *, now: datetime) -> None:
    """Refuses to take an ended rollout back while the decision for one of its steps is missing or has expired.

    One that is under way is not refused: stopping comes first, and its CIs go back as soon as the decision is there.
    """
    if not settings.REQUIRE_SIGNATURES:
        return
    taken = DeploymentItem.objects.filter(
        deployment__batch__in=rollout.forward_batch_ids(),
        deployment__state__in=[DeploymentState.SUCCEEDED, DeploymentState.CONFIRMING],
    )
    needed = taken.filter(Q(from_version__isnull=True) | Q(from_version__counter__lt=F("to_version__counter"))).exclude(
        from_version=F("to_version")
    )
    pairs = set(needed.values_list("to_version", "from_version"))
    missing = sorted(pairs - signed_ways_back({pair[0] for pair in pairs}, until=now), key=str)
    if not missing:
        return
    versions = Version.objects.select_related("product").in_bulk({pk for pair in missing for pk in pair if pk})
    lines = [way_back(versions[a], versions[b] if b else None) for a, b in missing]
    raise ConditionRefused(
        _("No valid rollback decision: %s. Have it signed and upload it first.") % "; ".join(lines[:NAMED]),
        code="signatures_missing",
        detail={"missing": lines},
    )


def signing_request(release: Release, *, now: datetime) -> dict[str, Any]:
    """The request file of a release: what is missing, for the key holder to sign offline."""
    missing = missing_signatures(release, now=now)
    return request_for(release.number, versions=missing.manifests, ways_back=missing.ways_back, now=now)
