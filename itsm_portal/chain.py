"""The chain of a ticket: incidents → problem → RFC → release → rollout → version on the CI.

It starts at any of its members (or at a CI) and shows only what the person may see. The number of queries is constant.
"""

from dataclasses import asdict, dataclass, field
from typing import Any

from django.db.models import Count, Q, Window
from django.urls import reverse
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from changes.models import Change
from cmdb.models import ConfigurationItem, InstalledVersion
from distribution.models import Batch, Deployment
from incidents.models import Incident
from problems.models import Problem
from releases.models import PackageItem, Release, Rollout
from tickets.links import page_of_object
from tickets.numbers import parse_number

SHOWN = 2
LABELS = {
    "incident": gettext_lazy("Incident"),
    "problem": gettext_lazy("Problem"),
    "change": gettext_lazy("Change"),
    "release": gettext_lazy("Release"),
    "rollout": gettext_lazy("Rollout"),
    "ci": gettext_lazy("Version on the CI"),
}
# What has a chain, by the prefix of its number.
CHAINED: dict[str, Any] = {
    model.PREFIX: model for model in (Incident, Problem, Change, Release, Rollout, ConfigurationItem)
}


@dataclass(frozen=True, slots=True)
class Link:
    """One member of the chain. `owner` is who has it, as people call him."""

    number: str
    title: str
    state: str
    state_label: str
    owner: str
    url: str


@dataclass(frozen=True, slots=True)
class Step:
    """A place in the chain: its members (newest first, at most `SHOWN`), or why it is empty and what creates it."""

    kind: str
    label: str
    links: tuple[Link, ...] = ()
    total: int = 0
    is_here: bool = False
    text: str = ""
    missing: str = ""
    action: str = ""
    action_url: str = ""
    since: Any = None

    @property
    def more(self) -> int:
        """How many members are not listed."""
        return self.total - len(self.links)


@dataclass(frozen=True, slots=True)
class Chain:
    """The steps in their order."""

    steps: tuple[Step, ...] = field(default_factory=tuple)

    def to_json(self) -> list[dict[str, Any]]:
        """The chain as plain JSON, for the API."""
        return [asdict(step) for step in self.steps]


@dataclass(frozen=True, slots=True)
class _Sets:
    incidents: Any
    problems: Any
    changes: Any
    releases: Any
    rollouts: Any


def chain_of(instance: Any, user: Any) -> Chain:
    """The chain through an incident, problem, change, release, rollout or CI, as this person may see it."""
    sets = _sets_of(instance)
    incidents, incident_total = _members(Incident, sets.incidents, user)
    problems, problem_total = _members(Problem, sets.problems, user)
    changes, change_total = _members(Change, sets.changes, user)
    releases, release_total = _members(Release, sets.releases, user)
    rollouts, rollout_total = _members(Rollout, sets.rollouts, user, "release", "started_by")
    here = type(instance)
    steps = [
        _step("incident", incidents, incident_total, here is Incident, _("none linked"), None),
        _step("problem", problems, problem_total, here is Problem, _("not opened"), _open_problem(instance, user)),
        _step(
            "change", changes, change_total, here is Change, _("not written"), _write_change(problems, incidents, user)
        ),
        _step("release", releases, release_total, here is Release, _("not packaged"), _make_release(changes, user)),
        _step("rollout", rollouts, rollout_total, here is Rollout, _("not started"), _start_rollout(releases, user)),
        _ci_step(instance, releases[0] if releases else None, rollouts[0] if rollouts else None, user),
    ]
    return Chain(tuple(steps))


def chain_of_number(number: str, user: Any) -> Chain | None:
    """The chain of what has this number, in any spelling; None where this person may see nothing by that number."""
    found = parse_number(number)
    model = CHAINED.get(found[0]) if found else None
    instance = model.objects.visible_to(user).filter(pk=found[1]).first() if found and model else None
    return chain_of(instance, user) if instance is not None else None


def in_words(chain: Chain) -> list[tuple[str, str]]:
    """The steps that exist, each in words with the address of its page: `INC-0000001 (resolved)`, `/incidents/…`."""
    words = []
    for step in chain.steps:
        if step.kind == "ci" and step.links and step.text:
            words.append((f"{step.links[0].title}: {step.text}", step.links[0].url))
        elif step.links:
            first = step.links[0]
            more = f" +{step.more}" if step.more else ""
            words.append((f"{first.number} ({first.state_label}){more}", first.url))
        elif step.text:
            words.append((step.text, ""))
    return words


def chain_text(chain: Chain) -> str:
    """The chain as one line, for mails: `INC-0000001 (resolved) → PRB-0000001 (resolved) → …`."""
    return " → ".join(text for text, _url in in_words(chain))


def _sets_of(instance: Any) -> _Sets:
    """Unrestricted querysets of the members; visibility is applied when they are shown."""
    if isinstance(instance, Incident | ConfigurationItem):
        one = Q(pk=instance.pk) if isinstance(instance, Incident) else Q(ci=instance)
        incidents = Incident.objects.filter(one)
        problems = Problem.objects.filter(pk__in=Problem.incidents.through.objects.filter(
            incident__in=incidents.values("pk")).values("problem_id"))  # fmt: skip
        changes = Change.objects.filter(_through(Change.problems, "problem", problems, "change")
                                        | _through(Change.incidents, "incident", incidents, "change"))  # fmt: skip
    elif isinstance(instance, Problem):
        problems = Problem.objects.filter(pk=instance.pk)
        incidents = Incident.objects.filter(_through(Problem.incidents, "problem", problems, "incident"))
        changes = Change.objects.filter(_through(Change.problems, "problem", problems, "change"))
    else:
        if isinstance(instance, Change):
            changes = Change.objects.filter(pk=instance.pk)
        else:
            release = instance.release_id if isinstance(instance, Rollout) else instance.pk
            changes = Change.objects.filter(
                pk__in=Release.changes.through.objects.filter(release_id=release).values("change_id")
            )
        problems = Problem.objects.filter(_through(Change.problems, "change", changes, "problem"))
        incidents = Incident.objects.filter(_through(Problem.incidents, "problem", problems, "incident")
                                            | _through(Change.incidents, "change", changes, "incident"))  # fmt: skip
    if isinstance(instance, Release):
        releases = Release.objects.filter(pk=instance.pk)
    elif isinstance(instance, Rollout):
        releases = Release.objects.filter(pk=instance.release_id)
    else:
        releases = Release.objects.filter(_through(Release.changes, "change", changes, "release")).exclude(
            state=Release.State.CANCELLED
        )
    if isinstance(instance, Rollout):
        rollouts = Rollout.objects.filter(pk=instance.pk)
    else:
        rollouts = Rollout.objects.filter(release__in=releases.values("pk"))
    return _Sets(incidents, problems, changes, releases, rollouts)


def _through(link: Any, near: str, nearby: Any, far: str) -> Q:
    """Members of the far side of a many-to-many link whose near side is in a queryset."""
    rows = link.through.objects.filter(**{f"{near}__in": nearby.values("pk")}).values(f"{far}_id")
    return Q(pk__in=rows)


def _members(model: Any, queryset: Any, user: Any, *related: str) -> tuple[list[Any], int]:
    """The newest visible members and how many there are, in one query."""
    visible = model.objects.visible_to(user).filter(pk__in=queryset.values("pk"))
    rows = visible.select_related(*(related or ("assignee", "requester"))).order_by("-pk")
    found = list(rows.annotate(total=Window(Count("*")))[:SHOWN])
    return found, found[0].total if found else 0


def _step(
    kind: str, members: list[Any], total: int, is_here: bool, missing: str, action: tuple[str, str] | None
) -> Step:
    links = tuple(_link(member) for member in members)
    label, url = action if action and not members else ("", "")
    return Step(kind, str(LABELS[kind]), links, total, is_here, "", "" if members else missing, label, url)


def _link(member: Any) -> Link:
    if isinstance(member, Rollout):
        title, owner = member.release.title, member.started_by
    else:
        title, owner = member.title, member.assignee or member.requester
    return Link(
        number=member.number,
        title=title,
        state=member.state,
        state_label=str(member.get_state_display()),
        owner=owner.label if owner else "",
        url=page_of_object(member),
    )


def _open_problem(instance: Any, user: Any) -> tuple[str, str] | None:
    if not isinstance(instance, Incident) or not user.has_perm("problems.open_problem"):
        return None
    return _("Open a problem"), f"{reverse('problem_create')}?incidents={instance.number}"


def _write_change(problems: list[Any], incidents: list[Any], user: Any) -> tuple[str, str] | None:
    source = next(iter([*problems, *incidents]), None)
    if source is None or not user.has_perm("changes.request_change"):
        return None
    name = "problems" if isinstance(source, Problem) else "incidents"
    return _("Write a change"), f"{reverse('change_create')}?{name}={source.number}"


def _make_release(changes: list[Any], user: Any) -> tuple[str, str] | None:
    ready = [change for change in changes if change.state in (Change.State.AUTHORISED, Change.State.SCHEDULED)]
    if not ready or not user.has_perm("releases.build_release"):
        return None
    return _("Make a release"), f"{reverse('release_create')}?changes={ready[0].number}"


def _start_rollout(releases: list[Any], user: Any) -> tuple[str, str] | None:
    if not releases or releases[0].state != Release.State.READY or not user.has_perm("releases.start_rollout"):
        return None
    return _("Start the rollout"), reverse("release_verb", args=[releases[0].number, "start_rollout"])


def _ci_step(instance: Any, release: Any, rollout: Any, user: Any) -> Step:
    """What runs now: on the ticket's CI, else how many CIs run the newest release's versions."""
    products = {}
    if release is not None:
        items = PackageItem.objects.filter(release=release).select_related("version__product").order_by("position")
        products = {item.product_id: item.version for item in items}
    ci = instance if isinstance(instance, ConfigurationItem) else getattr(instance, "ci", None)
    label = str(LABELS["ci"])
    if ci is not None:
        sees = ci.owner_id == user.pk or user.has_perm("cmdb.see_all_cis")
        # Who sees an incident sees for what the CI in it waits, and no more of that CI.
        if sees or (products and isinstance(instance, Incident)):
            return _on_ci(ci, products, is_here=ci is instance, is_linked=sees)
    if not products:
        return Step("ci", label, missing=_("nothing installed yet"))
    target = rollout.target_count if rollout is not None else None
    # Of a rollout's own targets; else of all CIs.
    frozen = Deployment.objects.filter(batch__wave__rollout=rollout, batch__purpose=Batch.Purpose.FORWARD, attempt=1)
    among: Any = frozen.values("ci") if target else ConfigurationItem.objects.production().values("pk")
    running = InstalledVersion.objects.filter(version__in=list(products.values()), valid_to__isnull=True, ci__in=among)
    count = running.aggregate(n=Count("ci", distinct=True))["n"]
    names = ", ".join(str(version) for version in products.values())
    if not count:
        return _nowhere(names, list(products), among, rollout)
    if target:
        text = ngettext(
            "%(versions)s on %(count)s of %(target)s CI", "%(versions)s on %(count)s of %(target)s CIs", target
        )
    else:
        text = ngettext("%(versions)s on %(count)s CI", "%(versions)s on %(count)s CIs", count)
    numbers = {"count": number_format(count), "target": number_format(target or 0)}
    return Step("ci", label, text=text % {"versions": names, **numbers})


def _on_ci(ci: ConfigurationItem, products: dict[int, Any], *, is_here: bool, is_linked: bool) -> Step:
    """What the CI runs of these products, of all where none is named."""
    rows = InstalledVersion.objects.filter(ci=ci, valid_to__isnull=True).select_related("product")
    if products:
        rows = rows.filter(product_id__in=products)
    installed = list(rows.order_by("-valid_from")[:SHOWN])
    text = ", ".join(f"{row.product.name} {row.label}" for row in installed)
    since = installed[0].valid_from if installed else None
    missing = "" if installed else _("nothing installed")
    label = str(LABELS["ci"])
    if not is_linked:
        return Step("ci", label, text=f"{ci.name}: {text}" if text else "", missing=missing, since=since)
    link = Link(ci.number, ci.name, ci.lifecycle, str(ci.get_lifecycle_display()), "", page_of_object(ci))
    return Step("ci", label, (link,), 1, is_here, text, missing, since=since)


def _nowhere(names: str, products: list[int], among: Any, rollout: Any) -> Step:
    """These versions run on no CI: not yet, not any more, or what came after them does."""
    label = str(LABELS["ci"])
    if rollout is None or rollout.finished_at is None:
        return Step("ci", label, missing=_("%(versions)s runs nowhere yet") % {"versions": names})
    if rollout.state == Rollout.State.COMPLETED:
        later = InstalledVersion.objects.filter(product__in=products, valid_to__isnull=True, ci__in=among)
        counted = later.values("product__name", "label").annotate(n=Count("ci")).order_by("-n")
        if found := counted.first():
            text = ngettext(
                "followed by %(product)s %(label)s on %(n)d CI", "followed by %(product)s %(label)s on %(n)d CIs",
                found["n"],
            )  # fmt: skip
            return Step("ci", label, text=text % {"product": found["product__name"], **found})
    return Step("ci", label, missing=_("%(versions)s runs nowhere any more") % {"versions": names})
