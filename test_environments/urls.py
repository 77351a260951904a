from django.urls import path

from test_environments.views import EnvironmentCreate, EnvironmentDetail, EnvironmentList, EnvironmentVerb

urlpatterns = [
    path("", EnvironmentList.as_view(), name="environment_list"),
    path("new/", EnvironmentCreate.as_view(), name="environment_create"),
    path("<str:number>/", EnvironmentDetail.as_view(), name="environment_detail"),
    path("<str:number>/<slug:verb>/", EnvironmentVerb.as_view(), name="environment_verb"),
]
