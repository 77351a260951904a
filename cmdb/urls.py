from django.urls import path

from cmdb.views import CICreate, CIDetail, CIList, CIOptions, CIToken

urlpatterns = [
    path("", CIList.as_view(), name="ci_list"),
    path("new/", CICreate.as_view(), name="ci_create"),
    path("options/", CIOptions.as_view(), name="ci_options"),
    path("<str:number>/", CIDetail.as_view(), name="ci_detail"),
    path("<str:number>/token/", CIToken.as_view(), name="ci_token"),
]
