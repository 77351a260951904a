from django.urls import path

from test_environments.views import EnvironmentCreate, EnvironmentDetail, EnvironmentList, EnvironmentVerb
from test_environments.views_image import ImageCreate, ImageDetail, ImageList, ImageVerb

urlpatterns = [
    path("", EnvironmentList.as_view(), name="environment_list"),
    path("new/", EnvironmentCreate.as_view(), name="environment_create"),
    path("images/", ImageList.as_view(), name="image_list"),
    path("images/new/", ImageCreate.as_view(), name="image_create"),
    path("images/<str:number>/", ImageDetail.as_view(), name="image_detail"),
    path("images/<str:number>/<slug:verb>/", ImageVerb.as_view(), name="image_verb"),
    path("<str:number>/", EnvironmentDetail.as_view(), name="environment_detail"),
    path("<str:number>/<slug:verb>/", EnvironmentVerb.as_view(), name="environment_verb"),
]
