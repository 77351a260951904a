from django.urls import path

from test_environments.views import (
    EnvironmentChoice,
    EnvironmentCreate,
    EnvironmentDetail,
    EnvironmentList,
    EnvironmentVerb,
)
from test_environments.views_disk import DiskChoice, DiskDetail, DiskList, DiskMedium, DiskOrder, DiskVerb
from test_environments.views_image import ImageChoice, ImageCreate, ImageDetail, ImageList, ImageVerb

urlpatterns = [
    path("", EnvironmentList.as_view(), name="environment_list"),
    path("new/", EnvironmentChoice.as_view(), name="environment_create"),
    path("new/<str:number>/", EnvironmentCreate.as_view(), name="environment_order"),
    path("images/", ImageList.as_view(), name="image_list"),
    path("images/new/", ImageChoice.as_view(), name="image_create"),
    path("images/new/<str:number>/", ImageCreate.as_view(), name="image_order"),
    path("images/<str:number>/", ImageDetail.as_view(), name="image_detail"),
    path("images/<str:number>/<slug:verb>/", ImageVerb.as_view(), name="image_verb"),
    path("disks/", DiskList.as_view(), name="disk_list"),
    path("disks/new/", DiskChoice.as_view(), name="disk_choose"),
    path("disks/new/<str:number>/", DiskOrder.as_view(), name="disk_order"),
    path("disks/<str:number>/", DiskDetail.as_view(), name="disk_detail"),
    path("disks/<str:number>/medium/", DiskMedium.as_view(), name="disk_medium"),
    path("disks/<str:number>/<slug:verb>/", DiskVerb.as_view(), name="disk_verb"),
    path("<str:number>/", EnvironmentDetail.as_view(), name="environment_detail"),
    path("<str:number>/<slug:verb>/", EnvironmentVerb.as_view(), name="environment_verb"),
]
