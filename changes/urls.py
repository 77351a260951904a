from django.urls import path

from changes.views import ChangeBulk, ChangeCreate, ChangeDetail, ChangeEdit, ChangeList, ChangeVerb
from changes.views_freeze import FreezeCreate, FreezeDetail, FreezeList
from changes.views_standard import StandardCreate, StandardDetail, StandardEdit, StandardList, StandardVerb

urlpatterns = [
    path("", ChangeList.as_view(), name="change_list"),
    path("new/", ChangeCreate.as_view(), name="change_create"),
    path("freezes/", FreezeList.as_view(), name="freeze_list"),
    path("freezes/new/", FreezeCreate.as_view(), name="freeze_create"),
    path("freezes/<str:number>/", FreezeDetail.as_view(), name="freeze_detail"),
    path("standard/", StandardList.as_view(), name="standard_list"),
    path("standard/new/", StandardCreate.as_view(), name="standard_create"),
    path("standard/<str:number>/", StandardDetail.as_view(), name="standard_detail"),
    path("standard/<str:number>/edit/", StandardEdit.as_view(), name="standard_edit"),
    path("standard/<str:number>/<slug:verb>/", StandardVerb.as_view(), name="standard_verb"),
    path("bulk/<slug:verb>/", ChangeBulk.as_view(), name="change_bulk"),
    path("<str:number>/", ChangeDetail.as_view(), name="change_detail"),
    path("<str:number>/edit/", ChangeEdit.as_view(), name="change_edit"),
    path("<str:number>/<slug:verb>/", ChangeVerb.as_view(), name="change_verb"),
]
