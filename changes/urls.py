from django.urls import path

from changes.views import ChangeCreate, ChangeDetail, ChangeEdit, ChangeList, ChangeVerb

urlpatterns = [
    path("", ChangeList.as_view(), name="change_list"),
    path("new/", ChangeCreate.as_view(), name="change_create"),
    path("<str:number>/", ChangeDetail.as_view(), name="change_detail"),
    path("<str:number>/edit/", ChangeEdit.as_view(), name="change_edit"),
    path("<str:number>/<slug:verb>/", ChangeVerb.as_view(), name="change_verb"),
]
