"""What CIs reported, and where that is not what was expected."""

import pgtrigger
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

# How much is kept for each CI: changes of one attribute, and changes in all.
KEPT_OF_KEY = 20
KEPT_OF_CI = 1000

# One row for each attribute that a report changed; the oldest go.
_NOTE_CHANGES = f"""
INSERT INTO cmdb_attributechange (ci_id, key, value, at)
SELECT NEW.id, coalesce(n.key, o.key), n.value, coalesce(NEW.attributes_at, clock_timestamp())
FROM jsonb_each_text(CASE jsonb_typeof(NEW.attributes) WHEN 'object' THEN NEW.attributes ELSE '{{}}' END) n
FULL JOIN jsonb_each_text(CASE jsonb_typeof(OLD.attributes) WHEN 'object' THEN OLD.attributes ELSE '{{}}' END) o
    ON o.key = n.key
WHERE n.value IS DISTINCT FROM o.value
ORDER BY 2;
DELETE FROM cmdb_attributechange WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY key ORDER BY id DESC) AS of_key,
            row_number() OVER (ORDER BY id DESC) AS of_ci
        FROM cmdb_attributechange WHERE ci_id = NEW.id
    ) ranked WHERE of_key > {KEPT_OF_KEY} OR of_ci > {KEPT_OF_CI});
RETURN NULL;
"""  # noqa: S608 - put together from constants


def attribute_trigger() -> pgtrigger.Trigger:
    """On `ConfigurationItem`: whoever writes the attributes, their changes are kept."""
    return pgtrigger.Trigger(
        name="note_attribute_changes",
        when=pgtrigger.After,
        operation=pgtrigger.UpdateOf("attributes"),
        condition=pgtrigger.Q(old__attributes__df=pgtrigger.F("new__attributes")),
        func=_NOTE_CHANGES,
    )


class AttributeChange(models.Model):
    """An attribute of a CI took another value (none: it was removed). Written by a trigger, append-only, bounded."""

    ci = models.ForeignKey("cmdb.ConfigurationItem", models.CASCADE, related_name="attribute_changes", db_index=False)
    key = models.CharField(_("attribute"), max_length=256)
    value = models.TextField(_("value"), null=True)
    at = models.DateTimeField(_("reported"))

    class Meta:
        ordering = ["-id"]
        verbose_name = _("change of an attribute")
        verbose_name_plural = _("changes of attributes")
        indexes = [models.Index(fields=["ci", "-id"], name="cmdb_attribute_change_of")]

    def __str__(self) -> str:
        return f"{self.ci_id} {self.key}"


class Drift(models.Model):
    """A CI runs something else than what was expected: no deployment explains it. One open one per CI and product.

    An empty `expected` or `reported` means: not installed. It ends when the CI runs what was expected, when a
    deployment brings another version, or when a person accepts what is there.
    """

    class End(models.TextChoices):
        RETURNED = "returned", _("back to what was expected")
        DEPLOYED = "deployed", _("replaced by a deployment")
        ACCEPTED = "accepted", _("accepted by a person")

    ci = models.ForeignKey("cmdb.ConfigurationItem", models.PROTECT, related_name="drifts")
    product = models.ForeignKey("software.Product", models.PROTECT, related_name="+")
    expected = models.CharField(_("expected"), max_length=64, blank=True)
    reported = models.CharField(_("reported"), max_length=64, blank=True)
    since = models.DateTimeField(_("since"))
    ended_at = models.DateTimeField(_("until"), null=True, blank=True)
    end = models.CharField(_("ended"), max_length=8, choices=End, blank=True)

    class Meta:
        ordering = ["-id"]
        verbose_name = _("drift")
        verbose_name_plural = _("drifts")
        constraints = [
            models.UniqueConstraint(
                fields=["ci", "product"], name="cmdb_one_open_drift", condition=Q(ended_at__isnull=True)
            ),
            models.CheckConstraint(condition=Q(ended_at__isnull=True) ^ ~Q(end=""), name="cmdb_drift_end_has_a_kind"),
        ]
        indexes = [models.Index(fields=["id"], name="cmdb_drift_open", condition=Q(ended_at__isnull=True))]

    def __str__(self) -> str:
        return f"{self.expected or '–'} → {self.reported or '–'}"
