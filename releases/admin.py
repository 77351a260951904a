"""Test policies are set up here; releases, rollouts and what the engine decided are read-only."""

from django.contrib import admin

from accounts.admin_classes import ReadOnlyAdmin, SetupAdmin
from releases.models import (
    PackageItem,
    PlanGeneration,
    ProbeSample,
    Release,
    ReleaseApproval,
    Rollout,
    RolloutEvent,
    RolloutException,
    TestPeriod,
    TestPolicy,
    TestRun,
    Verdict,
    Wave,
)
from tickets.admin import TicketAdmin


@admin.register(TestPolicy)
class TestPolicyAdmin(SetupAdmin):
    list_display = ["release_type", "soak_seconds", "early_life_days"]


@admin.register(Release)
class ReleaseAdmin(TicketAdmin):
    list_display = [*TicketAdmin.list_display, "release_type"]
    list_filter = [*TicketAdmin.list_filter, "release_type"]


@admin.register(PackageItem)
class PackageItemAdmin(ReadOnlyAdmin):
    list_display = ["release", "position", "version"]
    list_select_related = ["release", "version__product"]


@admin.register(ReleaseApproval)
class ReleaseApprovalAdmin(ReadOnlyAdmin):
    list_display = ["release", "approver", "decision", "target_count", "created_at"]
    list_filter = ["decision"]
    list_select_related = ["release", "approver"]


@admin.register(PlanGeneration)
class PlanGenerationAdmin(ReadOnlyAdmin):
    list_display = ["id", "release", "number", "made_by", "made_at"]
    list_select_related = ["release", "made_by"]


@admin.register(ProbeSample)
class ProbeSampleAdmin(ReadOnlyAdmin):
    list_display = ["id", "wave", "position", "round", "outcome", "detail", "asked_at", "answered_at"]
    list_filter = ["outcome"]
    list_select_related = ["wave"]


@admin.register(TestRun)
class TestRunAdmin(ReadOnlyAdmin):
    list_display = ["id", "release", "environment", "state", "soak_seconds", "soak_started_at", "finished_at"]
    list_filter = ["state"]
    list_select_related = ["release", "environment"]


@admin.register(TestPeriod)
class TestPeriodAdmin(ReadOnlyAdmin):
    list_display = ["id", "run", "seconds", "ended_at", "why"]
    list_select_related = ["run"]


@admin.register(Rollout)
class RolloutAdmin(ReadOnlyAdmin):
    list_display = ["number", "release", "state", "target_count", "started_by", "started_at", "finished_at"]
    list_filter = ["state"]
    list_select_related = ["release", "started_by"]


@admin.register(Wave)
class WaveAdmin(ReadOnlyAdmin):
    list_display = ["id", "rollout", "kind", "number", "state", "size", "started_at", "finished_at"]
    list_filter = ["kind", "state"]
    list_select_related = ["rollout"]


@admin.register(Verdict)
class VerdictAdmin(ReadOnlyAdmin):
    list_display = ["id", "wave", "kind", "round", "outcome", "event_position", "at"]
    list_filter = ["kind", "outcome"]
    list_select_related = ["wave"]


@admin.register(RolloutEvent)
class RolloutEventAdmin(ReadOnlyAdmin):
    list_display = ["id", "rollout", "wave", "kind", "text", "actor", "at"]
    list_filter = ["kind"]
    list_select_related = ["rollout", "wave", "actor"]


@admin.register(RolloutException)
class RolloutExceptionAdmin(ReadOnlyAdmin):
    list_display = ["id", "release", "rollout", "ci", "kind", "recorded_by", "created_at"]
    list_filter = ["kind"]
    list_select_related = ["release", "rollout", "ci", "recorded_by"]
