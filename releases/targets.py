"""Which CIs a release goes to, and which of them could not come back."""

from dataclasses import replace
from typing import Any

from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _

from cmdb.groups import definition_digest
from cmdb.models import CIGroup, ConfigurationItem, InstalledVersion
from distribution.models import Batch, Deployment, DeploymentItem, DeploymentState
from distribution.ways_back import BY_DEVICE, cannot_go, said
from releases.models import PackageItem, Release
from releases.policy import RolloutPolicy
from releases.selector import TargetSelector
from releases.waves import MOST_NAMED
from software.models import Artifact, Format, Version
from tickets.exceptions import ConditionRefused, InvalidInput


def target_cis(release: Release, *, after: int = 0) -> QuerySet[ConfigurationItem]:
    """The production CIs in operation, with an agent or a connection, that the package applies to, by id; those behind
    `after`.

    A CI applies when it runs a product of the package in the package's version (it will be skipped) or an older or
    unknown one, since a forward rollout never downgrades; or when a fresh install was added for it.
    """
    selector = TargetSelector.from_json(release.targets)
    items = PackageItem.objects.filter(release=release)
    # Without an OR, which PostgreSQL would look up for each CI; one that it does not know is older than any other.
    running = Coalesce(OuterRef("version__order"), Value(""))
    not_newer = Exists(items.filter(product=OuterRef("product"), version__order__gte=running))
    applies = InstalledVersion.objects.filter(not_newer, ci=OuterRef("pk"), valid_to__isnull=True)
    added = _added(release, selector)
    cis = ConfigurationItem.objects.production()
    if after:
        # On both sides: PostgreSQL would go through what is installed from the first CI on.
        cis, applies = cis.filter(pk__gt=after), applies.filter(ci__gt=after)
    cis = cis.filter(
        Exists(applies) | Q(pk__in=added),
        Q(agent_id__isnull=False) | Q(channel=ConfigurationItem.Channel.ANSIBLE),
        lifecycle=ConfigurationItem.Lifecycle.IN_OPERATION,
    )
    if selector.ci_classes:
        cis = cis.filter(Q(ci_class__slug__in=selector.ci_classes) | Q(pk__in=added))
    if selector.cis:
        cis = cis.filter(pk__in=[*selector.cis, *added])
    if selector.groups:
        cis = cis.filter(_in_groups(selector) | Q(pk__in=added))
    if selector.exclude:
        cis = cis.exclude(pk__in=selector.exclude)
    return cis.order_by("pk")


def _in_groups(selector: TargetSelector) -> Q:
    """Belongs to one of the groups; a group that is gone has no members."""
    condition = Q(pk__in=[])
    for group in CIGroup.objects.filter(pk__in=list(selector.groups)):
        condition |= Q(pk__in=group.members().values("pk"))
    return condition


def with_digests(targets: Any, actor: Any) -> dict[str, Any]:
    """The checked selector as JSON, bound to its groups as they are defined now; refuses groups that are not seen."""
    selector = TargetSelector.from_json(targets)
    if max(map(len, (selector.cis, selector.exclude, selector.fresh, selector.again))) > MOST_NAMED:
        text = _("At most %(most)d CIs are named one by one. Name classes or groups instead.")
        raise InvalidInput(text % {"most": MOST_NAMED}, field="targets", code="targets_invalid")
    groups = {group.pk: group for group in CIGroup.objects.visible_to(actor).filter(pk__in=list(selector.groups))}
    missing = sorted(set(selector.groups) - set(groups))
    if missing:
        raise InvalidInput(_("There is no group with the id %(id)d.") % {"id": missing[0]}, field="targets")
    return replace(selector, groups={pk: definition_digest(group) for pk, group in groups.items()}).to_json()


def check_groups(release: Release) -> None:
    """Refuses when a group of the target selector is defined otherwise than when the plan was saved."""
    selector = TargetSelector.from_json(release.targets)
    present = {group.pk: definition_digest(group) for group in CIGroup.objects.filter(pk__in=list(selector.groups))}
    if present != dict(selector.groups):
        raise ConditionRefused(
            _("A group of the targets was changed since the plan was saved. Save it again and have it approved."),
            code="groups_changed",
        )


def _added(release: Release, selector: TargetSelector) -> list[int]:
    """CIs for which a product of the package was added as a fresh install."""
    package = set(release.items.values_list("product_id", flat=True))
    return [ci for ci, products in selector.fresh.items() if package & set(products)]


def without_file(release: Release) -> QuerySet[ConfigurationItem]:
    """Targets for which a version of the package has no file: their agent takes another format."""
    selector = TargetSelector.from_json(release.targets)
    fitting = Artifact.objects.filter(version=OuterRef("version"), format=OuterRef(OuterRef("takes_format")))
    unfit = PackageItem.objects.filter(release=release).exclude(Exists(fitting))
    installed = InstalledVersion.objects.filter(ci=OuterRef(OuterRef("pk")), valid_to__isnull=True)
    added = Q(pk__in=_added(release, selector)) & Exists(unfit)
    cis = target_cis(release).annotate(takes_format=Coalesce("agent_profile__takes", Value(Format.ARCHIVE.value)))
    return cis.filter(Exists(unfit.filter(product__in=installed.values("product"))) | added)


def with_too_many_files(release: Release) -> QuerySet[ConfigurationItem]:
    """Targets whose agent takes one file only, and would get more."""
    selector = TargetSelector.from_json(release.targets)
    installed = InstalledVersion.objects.filter(ci=OuterRef(OuterRef("pk")), valid_to__isnull=True)
    files = Artifact.objects.filter(version__package_items__release=release, format=OuterRef("agent_profile__takes"))
    count = files.filter(version__product__in=installed.values("product")).order_by().values("format")
    # A CI that gets something for the first time gets at most the whole package.
    whole = files.order_by().values("format").annotate(n=Count("pk")).values("n")
    fresh = Q(pk__in=_added(release, selector), whole__gt=1)
    cis = target_cis(release).filter(agent_profile__one_file_only=True)
    cis = cis.annotate(files=Subquery(count.annotate(n=Count("pk")).values("n")), whole=Subquery(whole))
    return cis.filter(Q(files__gt=1) | fresh)


def before_a_step(release: Release) -> QuerySet[ConfigurationItem]:
    """Targets that would skip a version that must not be skipped: they run an older one, the package brings a later."""
    installed = InstalledVersion.objects.filter(ci=OuterRef("pk"), valid_to__isnull=True)
    skips: Any = Q(pk__in=[])
    for item in release.items.select_related("version"):
        steps = Version.objects.ready().filter(product=item.product_id, must_not_skip=True)
        last = steps.filter(order__lt=item.version.order).order_by("order").last()
        if last is not None:
            skips |= Exists(installed.filter(product=item.product_id, version__order__lt=last.order))
    return target_cis(release).filter(skips)


def unable_to_go_back(release: Release) -> QuerySet[ConfigurationItem]:
    """Targets whose agent does not say that it can go the way back that the package names for one of their products."""
    ways: dict[str, list[int]] = {}
    for product, way in release.items.filter(way_back__in=BY_DEVICE).values_list("product", "way_back"):
        ways.setdefault(way, []).append(product)
    selector = TargetSelector.from_json(release.targets)
    cis = target_cis(release).alias(**said())
    installed = InstalledVersion.objects.filter(ci=OuterRef("pk"), valid_to__isnull=True)
    unable = Q(pk__in=[])
    for way, products in ways.items():
        added = [ci for ci, fresh in selector.fresh.items() if set(products) & set(fresh)]
        unable |= cannot_go(way) & (Exists(installed.filter(product__in=products)) | Q(pk__in=added))
    return cis.filter(unable)


def without_way_back(release: Release) -> QuerySet[ConfigurationItem]:
    """Targets that could not return: what they run is not ready in the media library, or cannot be uninstalled; or
    their agent cannot go the way that the package names, and the plan does not have them reinstalled instead.
    """
    selector = TargetSelector.from_json(release.targets)
    installed = InstalledVersion.objects.filter(
        ci=OuterRef("pk"), valid_to__isnull=True, product__in=release.items.values("product")
    )
    lost = installed.filter(Q(version__isnull=True) | ~Q(version__state=Version.State.READY))
    is_lost = Exists(lost) | Q(pk__in=list(selector.fresh), agent_profile__can_remove=False)
    by_device = release.items.filter(way_back__in=BY_DEVICE).exists()
    if by_device and not RolloutPolicy.from_json(release.policy).or_reinstall:
        is_lost |= Q(pk__in=unable_to_go_back(release).order_by().values("pk"))
    return target_cis(release).filter(is_lost)


def failed_before(release: Release) -> QuerySet[ConfigurationItem]:
    """Targets on which this very content failed at the last try; nobody ordered another one in the plan.

    They are frozen as excluded. The same content: a deployment that brought nothing but versions of the package.
    """
    versions = list(release.items.values_list("version", flat=True))
    again = TargetSelector.from_json(release.targets).again
    tries = Deployment.objects.filter(batch__purpose=Batch.Purpose.FORWARD)
    tries = tries.exclude(batch__mode=Batch.Mode.DOWNLOAD_ONLY)
    failed = tries.filter(state=DeploymentState.FAILED, items__to_version__in=versions)
    something_else = DeploymentItem.objects.filter(deployment=OuterRef("pk")).exclude(to_version__in=versions)
    ended = [DeploymentState.FAILED, DeploymentState.SUCCEEDED]
    of_ci = tries.filter(ci=OuterRef("pk"), state__in=ended).exclude(Exists(something_else))
    newest = of_ci.order_by("-finished_at", "-pk").values("state")[:1]
    cis = target_cis(release).filter(pk__in=failed.values("ci")).exclude(pk__in=list(again))
    return cis.annotate(last_try=Subquery(newest)).filter(last_try=DeploymentState.FAILED)
