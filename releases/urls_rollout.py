from django.urls import path

from releases.views_report import RolloutReport
from releases.views_rollout import RolloutDetail, RolloutList, RolloutLive, RolloutVerb, RunningRollouts
from releases.views_stragglers import RolloutStragglers

urlpatterns = [
    path("", RolloutList.as_view(), name="rollout_list"),
    path("running/", RunningRollouts.as_view(), name="running_rollouts"),
    path("<str:number>/", RolloutDetail.as_view(), name="rollout_detail"),
    path("<str:number>/live/", RolloutLive.as_view(), name="rollout_live"),
    path("<str:number>/report/", RolloutReport.as_view(), name="rollout_report"),
    path("<str:number>/stragglers/", RolloutStragglers.as_view(), name="rollout_stragglers"),
    path("<str:number>/<slug:verb>/", RolloutVerb.as_view(), name="rollout_verb"),
]
