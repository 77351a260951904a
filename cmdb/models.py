"""Configuration items: what runs, who owns it, what is installed on it, and the agent that speaks for it."""

from typing import Any

import pghistory
from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from cmdb.group_filter import condition_of
from software.models import Format
from tickets.numbers import format_number


class CIClass(models.Model):
    """A kind of configuration item: server, desktop, network device, service."""

    name = models.CharField(_("name"), max_length=100, unique=True)
    slug = models.SlugField(_("short name"), unique=True)

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
    can_remove = models.BooleanField(_("can uninstall"), default=True)
    one_file_only = models.BooleanField(_("takes one file per deployment"), default=False)

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

    def visible_to(self, user: Any) -> "CIQuerySet":
        """The CIs that a person may see: all with the right, else his own."""
        if user.has_perm("cmdb.see_all_cis"):
            return self
        return self.filter(owner=user)


@pghistory.track(
    exclude=["last_seen_at", "attributes", "attributes_at", "attributes_wanted"], model_name="ConfigurationItemHistory"
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
    attributes = models.JSONField(_("reported attributes"), default=dict, blank=True)
    attributes_at = models.DateTimeField(null=True, blank=True)
    attributes_wanted = models.BooleanField(default=True)
    last_seen_at = models.DateTimeField(_("last seen"), null=True, blank=True)
    created_at = models.DateTimeField(_("created"))

    objects = CIQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name = _("configuration item")
        verbose_name_plural = _("configuration items")
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

    def __str__(self) -> str:
        return self.name


@pghistory.track(exclude=["sealed"], model_name="CredentialHistory")
class Credential(models.Model):
    """What opens connections to hosts: a user's private key or password, encrypted; see `cmdb.credentials`."""

    class Kind(models.TextChoices):
        SSH_KEY = "ssh_key", _("private SSH key")
        PASSWORD = "password", _("password")

    name = models.CharField(_("name"), max_length=64, unique=True)
    kind = models.CharField(_("kind"), max_length=8, choices=Kind, default=Kind.SSH_KEY)
    sealed = models.TextField(editable=False)
    changed_at = models.DateTimeField(_("changed"))

    class Meta:
        ordering = ["name"]
        verbose_name = _("credential")
        verbose_name_plural = _("credentials")

    def __str__(self) -> str:
        return self.name


@pghistory.track(model_name="ConnectionHistory")
class Connection(models.Model):
    """How a host without an agent is reached, and where its software lives."""

    class Kind(models.TextChoices):
        SSH = "ssh", _("SSH")
        LOCAL = "local", _("this very machine")

    ci = models.OneToOneField(ConfigurationItem, models.PROTECT, related_name="connection")
    kind = models.CharField(_("connection"), max_length=5, choices=Kind, default=Kind.SSH)
    address = models.CharField(
        _("address"),
        max_length=253,
        blank=True,
        validators=[RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9.:-]*$", _("A host name or an IP address."))],
    )
    port = models.PositiveIntegerField(
        _("port"), default=22, validators=[MinValueValidator(1), MaxValueValidator(65535)]
    )
    user = models.CharField(
        _("user"), max_length=64, blank=True, validators=[RegexValidator(r"^[A-Za-z_][A-Za-z0-9_.-]*\$?$")]
    )
    credential = models.ForeignKey(
        Credential,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="connections",
        verbose_name=_("credential"),
    )
    host_key = models.TextField(
        _("host key"),
        blank=True,
        help_text=_("As in a .pub file, one per line: “ssh-ed25519 AAAA…”. Any other key is refused."),
    )
    folder = models.CharField(
        _("folder"),
        max_length=255,
        validators=[RegexValidator(r"^/[A-Za-z0-9._/+-]*[A-Za-z0-9._+-]$", _("An absolute path without blanks."))],
        help_text=_("Where the software goes; it must be there and belong to the user."),
    )
    python = models.CharField(
        _("Python"),
        max_length=255,
        default="/usr/bin/python3",
        validators=[RegexValidator(r"^/[A-Za-z0-9._/+-]+$")],
        help_text=_("Path of the host's Python, 3.8 or newer."),
    )

    class Meta:
        verbose_name = _("connection")
        verbose_name_plural = _("connections")

    def __str__(self) -> str:
        return f"{self.ci_id} by {self.kind}"


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


class CIGroupQuerySet(models.QuerySet["CIGroup"]):
    def visible_to(self, user: Any) -> "CIGroupQuerySet":
        """Groups are for those who see every CI: a group tells of CIs by what they have in common."""
        return self if user.has_perm("cmdb.see_all_cis") else self.none()


@pghistory.track(model_name="CIGroupHistory")
class CIGroup(models.Model):
    """Production CIs that are meant together: named ones, those that fit a filter, or both.

    What fits is asked anew each time; copies for tests are never members. An empty group has no member.
    """

    PREFIX = "GRP"

    name = models.CharField(_("name"), max_length=100, unique=True)
    description = models.TextField(_("description"), blank=True)
    static_members = models.ManyToManyField(
        ConfigurationItem, related_name="static_groups", blank=True, verbose_name=_("named CIs")
    )
    filter = models.JSONField(
        _("filter"), default=dict, blank=True, help_text=_("Checked by `cmdb.group_filter`; empty: only named CIs.")
    )

    objects = CIGroupQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name = _("CI group")
        verbose_name_plural = _("CI groups")

    @property
    def number(self) -> str:
        return format_number(self.PREFIX, self.pk)

    def __str__(self) -> str:
        return self.name

    def members(self) -> CIQuerySet:
        """The production CIs that belong to it now: one query, whatever the size."""
        named = CIGroup.static_members.through.objects.filter(cigroup_id=self.pk).values("configurationitem_id")
        condition = condition_of(self.filter, InstalledVersion.objects.filter(valid_to__isnull=True))
        is_member = Q(pk__in=named) if condition is None else Q(pk__in=named) | condition
        return ConfigurationItem.objects.production().filter(is_member)

    def contains(self, ci: ConfigurationItem) -> bool:
        """Whether this CI belongs to it now."""
        return self.members().filter(pk=ci.pk).exists()
