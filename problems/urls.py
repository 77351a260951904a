from django.urls import path

from problems.views import ProblemBulk, ProblemCreate, ProblemDetail, ProblemList, ProblemVerb
from problems.views_known_errors import KnownErrors

urlpatterns = [
    path("", ProblemList.as_view(), name="problem_list"),
    path("new/", ProblemCreate.as_view(), name="problem_create"),
    path("bulk/<slug:verb>/", ProblemBulk.as_view(), name="problem_bulk"),
    path("known-errors/", KnownErrors.as_view(), name="known_errors"),
    path("<str:number>/", ProblemDetail.as_view(), name="problem_detail"),
    path("<str:number>/<slug:verb>/", ProblemVerb.as_view(), name="problem_verb"),
]
