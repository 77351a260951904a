from django.urls import path

from incidents.views import IncidentBulk, IncidentCreate, IncidentDetail, IncidentList, IncidentVerb

urlpatterns = [
    path("", IncidentList.as_view(), name="incident_list"),
    path("new/", IncidentCreate.as_view(), name="incident_create"),
    path("bulk/<slug:verb>/", IncidentBulk.as_view(), name="incident_bulk"),
    path("<str:number>/", IncidentDetail.as_view(), name="incident_detail"),
    path("<str:number>/<slug:verb>/", IncidentVerb.as_view(), name="incident_verb"),
]
