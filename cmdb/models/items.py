"""Configuration items: what runs, who owns it, what is installed on it, and the agent that speaks for it."""

from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import pghistory
from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from cmdb.models.reported import Drift, attribute_trigger
from cmdb.windows import DAYS, check_zone, occurrence, occurrences
from software.models import Format
from tickets.numbers import format_number
from tickets.searching import word_indexes


class MaintenanceWindowQuerySet(models.QuerySet["MaintenanceWindow"]):
    def of_cis(self, cis: "CIQuerySet") -> "MaintenanceWindowQuerySet":
        """Those that hold for one of these CIs: its own, else that of its class."""
        own = cis.filter(maintenance_window=models.OuterRef("pk"))
        of_class = cis.filter(maintenance_window=None, ci_class__maintenance_window=models.OuterRef("pk"))
        return self.filter(models.Exists(own) | models.Exists(of_class))


@pghistory.track(model_name="MaintenanceWindowHistory")
class MaintenanceWindow(models.Model):
    """When the CIs of a site may be changed: weekly, by the site's own clock. Outside it nothing is offered to them."""

    name = models.CharField(_("name"), max_length=64, unique=True)
    weekdays = models.CharField(
        _("weekdays"),
        max_length=7,
        default=DAYS,
        validators=[RegexValidator(r"^(?!.*(.).*\1)[1-7]+$", _("Digits from 1 (Monday) to 7, each once."))],
        help_text=_("Days on which it begins: 1 is Monday, 7 is Sunday; 12345 is from Monday to Friday."),
    )
    start = models.TimeField(_("begins at"), help_text=_("By the clock of the site."))
    minutes = models.PositiveSmallIntegerField(
        _("length in minutes"), validators=[MinValueValidator(1), MaxValueValidator(7 * 24 * 60)]
    )
    zone = models.CharField(
        _("time zone"),
        max_length=64,
        default="UTC",
        validators=[check_zone],
        help_text=_("Of the site, for example Europe/Berlin."),
    )

    objects = MaintenanceWindowQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name = _("maintenance window")
        verbose_name_plural = _("maintenance windows")
        constraints = [
            models.CheckConstraint(condition=Q(weekdays__regex=r"^[1-7]+$"), name="cmdb_window_has_a_day"),
            models.CheckConstraint(condition=Q(minutes__range=(1, 7 * 24 * 60)), name="cmdb_window_up_to_a_week"),
        ]

    def __str__(self) -> str:
        return self.name

    def occurrence(self, now: datetime) -> tuple[datetime, datetime]:
        """Begin and end of the occurrence that is under way; else of the next one."""
        return occurrence(self.weekdays, self.start, timedelta(minutes=self.minutes), self.zone, now)

    def occurrences(self, after: datetime, before: datetime) -> list[tuple[datetime, datetime]]:
        """Begin and end of every occurrence that has a part between these times, in order."""
        length = timedelta(minutes=self.minutes)
        return occurrences(self.weekdays, self.start, length, self.zone, after, before)

    def is_open(self, now: datetime) -> bool:
        return self.occurrence(now)[0] <= now


class CIClass(models.Model):
    """A kind of configuration item: server, desktop, network device, service."""

    name = models.CharField(_("name"), max_length=100, unique=True)
    slug = models.SlugField(_("short name"), unique=True)
    maintenance_window = models.ForeignKey(
        MaintenanceWindow,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="ci_classes",
        verbose_name=_("maintenance window"),
        help_text=_("Of its CIs that have none of their own; empty: at any time."),
    )

    class Meta:
        ordering = ["name"]
        verbose_name = _("CI class")
        verbose_name_plural = _("CI classes")

    def __str__(self) -> str:
        return self.name


class AgentProfile(models.Model):
    """What a kind of agent can do and what proves its success; data, not code."""

    class Proof(models.TextChoices):
        ATTRIBUTES = "attributes", _("it reports the version that runs")
        CLOSED = "closed", _("it closes the action only after the restart")

    name = models.CharField(_("name"), max_length=64, unique=True)
    proof = models.CharField(_("proof of success"), max_length=10, choices=Proof, default=Proof.ATTRIBUTES)
    attribute_key = models.CharField(
        _("attribute"),
        max_length=64,
        default="version.{product}",
        help_text=_("Key of the attribute that names the version; {product} stands for the product's short name."),
    )
    takes = models.CharField(
        _("takes"),
        max_length=12,
        choices=Format,
        default=Format.ARCHIVE,
        help_text=_("Of a version's files the agent gets those of this format."),
    )
    can_remove = models.BooleanField(
        _("can uninstall"),
        default=True,
        help_text=_("It also reports all it runs: a product that is missing in its full report is not installed."),
    )
    one_file_only = models.BooleanField(_("takes one file per deployment"), default=False)
    can_wait = models.BooleanField(
        _("waits for its window itself"),
        default=False,
        help_text=_("It may download before and obeys “update: skip”. Others see nothing until their window opens."),
    )
    notes = models.TextField(_("notes"), blank=True, help_text=_("What to know when one plans for this agent."))

    class Meta:
        ordering = ["name"]
        verbose_name = _("agent profile")
        verbose_name_plural = _("agent profiles")

    def __str__(self) -> str:
        return self.name


class CIQuerySet(models.QuerySet["ConfigurationItem"]):
    def production(self) -> "CIQuerySet":
        """Everything but test copies: the only base of targets, counts, health, reports and cascades."""
        return self.filter(copy_of__isnull=True)

    def drifted(self) -> "CIQuerySet":
        """Those that run something else than what was expected."""
        return self.filter(models.Exists(Drift.objects.filter(ci=models.OuterRef("pk"), ended_at__isnull=True)))

    def with_drift(self) -> "CIQuerySet":
        """With `has_drift`, in the same query."""
        is_open = Drift.objects.filter(ci=models.OuterRef("pk"), ended_at__isnull=True)
        return self.annotate(has_drift=models.Exists(is_open))

    def visible_to(self, user: Any) -> "CIQuerySet":
        """The CIs that a person may see: all with the right, else his own."""
        if user.has_perm("cmdb.see_all_cis"):
            return self
        return self.filter(owner=user)


@pghistory.track(
    exclude=["last_seen_at", "attributes", "attributes_at", "attributes_wanted", "health_request"],
    model_name="ConfigurationItemHistory",
)
class ConfigurationItem(models.Model):
    """A thing under configuration control. Never deleted, only retired.

    A copy for tests is a CI with `copy_of`, an identity and a token of its own; it is never a target.
    """

    class Lifecycle(models.TextChoices):
        PLANNED = "planned", _("planned")
        ORDERED = "ordered", _("ordered")
        IN_STOCK = "in_stock", _("in stock")
        IN_OPERATION = "in_operation", _("in operation")
        IN_REPAIR = "in_repair", _("in repair")
        RETIRED = "retired", _("retired")
        DISPOSED = "disposed", _("disposed")

    class Channel(models.TextChoices):
        DDI = "ddi", _("its agent asks")
        ANSIBLE = "ansible", _("pushed by Ansible")

    PREFIX = "CI"

    name = models.CharField(_("name"), max_length=128, unique=True)
    ci_class = models.ForeignKey(CIClass, models.PROTECT, related_name="cis", verbose_name=_("class"))
    lifecycle = models.CharField(_("lifecycle"), max_length=12, choices=Lifecycle, default=Lifecycle.IN_OPERATION)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="owned_cis",
        verbose_name=_("owner"),
    )
    team = models.ForeignKey(
        "accounts.Team", models.PROTECT, null=True, blank=True, related_name="cis", verbose_name=_("team")
    )
    description = models.TextField(_("description"), blank=True)
    copy_of = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, related_name="copies", verbose_name=_("copy of")
    )
    agent_id = models.CharField(
        _("agent id"),
        max_length=128,
        unique=True,
        null=True,
        blank=True,
        validators=[RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")],
        help_text=_("How the device names itself to the distribution system; empty: without an agent."),
    )
    agent_profile = models.ForeignKey(
        AgentProfile, models.PROTECT, null=True, blank=True, related_name="cis", verbose_name=_("agent profile")
    )
    channel = models.CharField(_("channel"), max_length=8, choices=Channel, default=Channel.DDI, db_default="ddi")
    maintenance_window = models.ForeignKey(
        MaintenanceWindow,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="cis",
        verbose_name=_("maintenance window"),
        help_text=_("Empty: that of its class."),
    )
    attributes = models.JSONField(_("reported attributes"), default=dict, blank=True)
    attributes_at = models.DateTimeField(null=True, blank=True)
    attributes_wanted = models.BooleanField(default=True)
    health_request = models.PositiveBigIntegerField(
        null=True, blank=True, editable=False, help_text=_("Number of the health check that its agent is asked for.")
    )
    last_seen_at = models.DateTimeField(_("last seen"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"))

    objects = CIQuerySet.as_manager()

    # What was read together with it for a caller (`cmdb.services.Beside`): about what, and the columns.
    beside: tuple[Any, tuple[Any, ...]] | None = None

    class Meta:
        ordering = ["name"]
        verbose_name = _("configuration item")
        verbose_name_plural = _("configuration items")
        indexes = [
            # Lists show production CIs by name, or newest first.
            models.Index(fields=["name", "id"], condition=Q(copy_of__isnull=True), name="cmdb_ci_production_name"),
            models.Index(fields=["id"], condition=Q(copy_of__isnull=True), name="cmdb_ci_production"),
            *word_indexes("cmdb_ci_name", "name"),
        ]
        triggers = [attribute_trigger()]
        permissions = [
            ("see_all_cis", "Can see every configuration item"),
            ("manage_cis", "Can register and change configuration items and their agents' tokens"),
        ]

    @property
    def number(self) -> str:
        return format_number(self.PREFIX, self.pk)

    @property
    def takes(self) -> str:
        """The format of the files that its agent gets."""
        return self.agent_profile.takes if self.agent_profile is not None else Format.ARCHIVE

    @cached_property
    def window(self) -> MaintenanceWindow | None:
        """When it may be changed; None: at any time, as every copy for tests."""
        if self.copy_of_id is not None:
            return None
        return self.maintenance_window or self.ci_class.maintenance_window

    def take_beside(self, about: Any) -> tuple[Any, ...] | None:
        """What was read about this together with the CI; once, since it may change. None: nothing was."""
        known, self.beside = self.beside, None
        return known[1] if known is not None and known[0] == about else None

    def __str__(self) -> str:
        return self.name


@pghistory.track(exclude=["sha256"], model_name="AgentTokenHistory")
class AgentToken(models.Model):
    """A device's secret: 32 random bytes, shown once, kept as SHA-256. Two are valid during a rotation."""

    ci = models.ForeignKey(ConfigurationItem, models.PROTECT, related_name="agent_tokens")
    sha256 = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("agent token")
        verbose_name_plural = _("agent tokens")

    def __str__(self) -> str:
        return f"token {self.pk} of {self.ci_id}"


@pghistory.track(model_name="RelationHistory")
class Relation(models.Model):
    """`source` depends on `target`: an outage of the target hurts the source."""

    class Kind(models.TextChoices):
        DEPENDS_ON = "depends_on", _("depends on")
        RUNS_ON = "runs_on", _("runs on")
        USES = "uses", _("uses")

    source = models.ForeignKey(ConfigurationItem, models.PROTECT, related_name="depends")
    target = models.ForeignKey(ConfigurationItem, models.PROTECT, related_name="supports")
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.DEPENDS_ON)

    class Meta:
        verbose_name = _("relation")
        verbose_name_plural = _("relations")
        constraints = [
            models.UniqueConstraint(fields=["source", "target", "kind"], name="cmdb_relation_once"),
            models.CheckConstraint(condition=~Q(source=models.F("target")), name="cmdb_relation_not_to_itself"),
        ]

    def __str__(self) -> str:
        return f"{self.source_id} {self.kind} {self.target_id}"


class InstalledVersion(models.Model):
    """Which version of a product a CI runs, since when, by what, and what it replaced; written from reports only.

    The current one has no `valid_to`. `version` is empty when the device reports a label that the media library does
    not know. `source` says in plain text what brought it (`ROL-0000003`), empty: found by a report.
    """

    ci = models.ForeignKey(ConfigurationItem, models.PROTECT, related_name="installed_versions")
    product = models.ForeignKey("software.Product", models.PROTECT, related_name="installations")
    version = models.ForeignKey("software.Version", models.PROTECT, null=True, blank=True, related_name="installations")
    label = models.CharField(_("version"), max_length=64)
    replaced = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="+")
    valid_from = models.DateTimeField(_("since"))
    valid_to = models.DateTimeField(_("until"), null=True, blank=True)
    source = models.CharField(max_length=64, blank=True)
    is_drift = models.BooleanField(
        _("drift"), default=False, help_text=_("Reported without a deployment that explains it.")
    )
    changes = models.PositiveIntegerField(
        _("changes"),
        default=0,
        db_default=0,
        help_text=_("Changes that only reports told; above one: it went to and fro, and each is not kept for itself."),
    )

    class Meta:
        ordering = ["-valid_from", "-id"]
        verbose_name = _("installed version")
        verbose_name_plural = _("installed versions")
        constraints = [
            models.UniqueConstraint(
                fields=["ci", "product"], name="cmdb_installed_current_once", condition=Q(valid_to__isnull=True)
            )
        ]
        indexes = [
            models.Index(fields=["product", "version"], name="cmdb_installed_now", condition=Q(valid_to__isnull=True))
        ]

    def __str__(self) -> str:
        return f"{self.product_id} {self.label} on {self.ci_id}"
