"""The maintenance matrix: which process handles which activity (DIN 31051:2019, applied to software CIs by us)."""

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from tickets.exceptions import activity_refused


class Activity(models.TextChoices):
    MAINTENANCE = "maintenance", _("Maintenance (Wartung)")
    INSPECTION = "inspection", _("Inspection (Inspektion)")
    REPAIR = "repair", _("Repair (Instandsetzung)")
    IMPROVEMENT = "improvement", _("Improvement (Verbesserung)")


class Process(models.TextChoices):
    INCIDENT = "incident", _("Incident management")
    PROBLEM = "problem", _("Problem management")
    CHANGE = "change", _("Change management")
    RELEASE = "release", _("Release management")


MATRIX: dict[Activity, tuple[Process, ...]] = {
    Activity.MAINTENANCE: (Process.CHANGE, Process.RELEASE),
    Activity.INSPECTION: (Process.PROBLEM, Process.CHANGE, Process.RELEASE),
    Activity.REPAIR: (Process.INCIDENT, Process.PROBLEM, Process.CHANGE, Process.RELEASE),
    Activity.IMPROVEMENT: (Process.CHANGE, Process.RELEASE),
}


def activities_of(process: Process) -> list[Activity]:
    """The activities that a process handles."""
    return [activity for activity, processes in MATRIX.items() if process in processes]


def activity_constraint(process: Process) -> models.CheckConstraint:
    """The matrix as one CHECK of a ticket table."""
    return models.CheckConstraint(
        condition=Q(activity__in=[str(activity.value) for activity in activities_of(process)]),
        name=f"{process.value}_activity_applies",
    )


def check_activity(process: Process, activity: str) -> None:
    """Refuses a pair that the matrix does not know, before the database does, with a text fit for people."""
    if activity not in Activity.values:
        raise activity_refused(str(process.label), activity, ", ".join(str(a.label) for a in Activity))
    kind = Activity(activity)
    if process not in MATRIX[kind]:
        raise activity_refused(str(process.label), str(kind.label), ", ".join(str(p.label) for p in MATRIX[kind]))
