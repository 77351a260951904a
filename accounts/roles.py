"""The roles of the portal and their rights; a person's rights are the union of his roles.

Separation of duties is not here: the services refuse the author's own approval, whatever his rights.
"""

from collections.abc import Iterator

from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.db import models, transaction

PROJECT_APPS = (
    "releases", "changes", "problems", "incidents", "test_environments",
    "distribution", "cmdb", "software", "tickets", "notifications", "accounts",
)  # fmt: skip

READ_TICKETS = frozenset(
    {
        "incidents.see_all_incidents",
        "problems.see_all_problems",
        "changes.see_all_changes",
        "releases.see_all_releases",
    }
)
READ_EVERYTHING = READ_TICKETS | {
    "cmdb.see_all_cis",
    "test_environments.see_environments",
    "distribution.see_push_log",
}
REPORT = frozenset({"incidents.report_incident"})

ROLES: dict[str, frozenset[str]] = {
    "requester": REPORT,
    "service desk": REPORT
    | READ_TICKETS
    | {
        "cmdb.see_all_cis",
        "incidents.work_incident",
        "incidents.manage_major_incident",
        "problems.open_problem",
    },
    "problem manager": REPORT | READ_TICKETS | {"cmdb.see_all_cis", "problems.open_problem", "problems.work_problem"},
    "change requester": REPORT | READ_TICKETS | {"cmdb.see_all_cis", "changes.request_change"},
    "change manager": REPORT | READ_TICKETS | {"cmdb.see_all_cis", "changes.assess_change", "changes.manage_change"},
    "CAB member": REPORT | READ_TICKETS | {"cmdb.see_all_cis", "changes.approve_change"},
    "emergency approver": REPORT | READ_TICKETS | {"cmdb.see_all_cis", "changes.approve_emergency_change"},
    "release engineer": REPORT
    | READ_EVERYTHING
    | {
        "releases.build_release",
        "software.manage_software",
        "test_environments.manage_environments",
    },
    "release manager": REPORT
    | READ_EVERYTHING
    | {
        "releases.approve_release",
        "releases.start_rollout",
        "releases.pause_rollout",
        "releases.roll_back_rollout",
        "releases.record_exception",
        "releases.see_operations",
        "releases.override_window",
        "test_environments.approve_copies",
    },
    "operator": REPORT | READ_EVERYTHING | {"releases.pause_rollout", "releases.see_operations"},
    # Sees and excludes his own CIs because he owns them, not by a right.
    "CI owner": REPORT,
    "auditor": READ_EVERYTHING | {"releases.see_operations"},
    "administrator": REPORT
    | {
        "cmdb.see_all_cis",
        "cmdb.manage_cis",
        "distribution.see_push_log",
        "test_environments.see_environments",
        "accounts.manage_service_tokens",
        "releases.see_operations",
    },
    "service account": REPORT | {"cmdb.see_all_cis"},
    # Orders rollouts in one call, from standard changes that name it; approves nothing.
    "deployment pipeline": REPORT | READ_EVERYTHING | {"releases.build_release", "releases.start_rollout"},
}

# What the administrator sets up in the admin; tickets, deployments and history are read-only there.
SETUP_MODELS = (
    "accounts.user", "accounts.team", "tickets.priorityrule", "cmdb.ciclass", "cmdb.agentprofile", "cmdb.credential",
    "cmdb.configurationitem", "cmdb.relation", "cmdb.cigroup", "software.product",
    "cmdb.maintenancewindow", "cmdb.trustedauthority",
    "test_environments.copysource", "test_environments.neutralisingrecipe",
    "releases.testpolicy", "incidents.driftrule",
)  # fmt: skip


def _models() -> Iterator[type[models.Model]]:
    for label in PROJECT_APPS:
        yield from apps.get_app_config(label).get_models()


def rights_of(role: str) -> frozenset[str]:
    """Every right of a role as `app.codename`: those of `ROLES` and the model rights that the admin asks for."""
    rights = set(ROLES[role])
    if role == "auditor":
        rights |= {f"{m._meta.app_label}.view_{m._meta.model_name}" for m in _models()}
    if role == "administrator":
        for label in SETUP_MODELS:
            app, model = label.split(".")
            rights |= {f"{app}.{action}_{model}" for action in ("view", "add", "change", "delete")}
        rights |= {
            "notifications.view_outbox",
            "auth.view_group",
            "cmdb.view_agenttoken",
            "cmdb.view_gatewaytoken",
            "cmdb.view_registration",
        }
    return frozenset(rights)


def setup_roles() -> int:
    """Makes the groups of `ROLES` have exactly their rights; returns how many groups had to be changed.

    Raises `LookupError` with the names of rights that no model declares.
    """
    wanted = {role: rights_of(role) for role in ROLES}
    known = {
        f"{app}.{codename}": pk
        for pk, app, codename in Permission.objects.values_list("pk", "content_type__app_label", "codename")
    }
    missing = sorted(set().union(*wanted.values()) - known.keys())
    if missing:
        raise LookupError(", ".join(missing))
    changed = 0
    with transaction.atomic():
        for role, rights in wanted.items():
            group, is_new = Group.objects.get_or_create(name=role)
            keys = {known[right] for right in rights}
            if is_new or set(group.permissions.values_list("pk", flat=True)) != keys:
                group.permissions.set(keys)
                changed += 1
    return changed
