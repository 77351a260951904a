from django.urls import path

from releases.views import (
    ReleaseCreate,
    ReleaseDetail,
    ReleaseEdit,
    ReleaseList,
    ReleaseNotes,
    ReleasePlan,
    ReleaseVerb,
    SigningRequest,
)
from releases.views_deploy import DeployPage
from releases.views_dry_run import DryRunCIs, ReleaseDryRun

urlpatterns = [
    path("", ReleaseList.as_view(), name="release_list"),
    path("new/", ReleaseCreate.as_view(), name="release_create"),
    path("deploy/", DeployPage.as_view(), name="release_deploy"),
    path("<str:number>/", ReleaseDetail.as_view(), name="release_detail"),
    path("<str:number>/edit/", ReleaseEdit.as_view(), name="release_edit"),
    path("<str:number>/plan-rollout/", ReleasePlan.as_view(), name="release_plan"),
    path("<str:number>/dry-run/", ReleaseDryRun.as_view(), name="release_dry_run"),
    path("<str:number>/dry-run/cis/", DryRunCIs.as_view(), name="release_dry_run_cis"),
    path("<str:number>/notes/", ReleaseNotes.as_view(), name="release_notes"),
    path("<str:number>/signing-request/", SigningRequest.as_view(), name="release_signing_request"),
    path("<str:number>/<slug:verb>/", ReleaseVerb.as_view(), name="release_verb"),
]
