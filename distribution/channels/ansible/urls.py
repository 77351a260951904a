from django.urls import path

from distribution.channels.ansible.views import CIConnection, CIDisconnect, CIPushLog

urlpatterns = [
    path("<str:number>/connection/", CIConnection.as_view(), name="ci_connection"),
    path("<str:number>/disconnect/", CIDisconnect.as_view(), name="ci_disconnect"),
    path("<str:number>/deployments/<int:deployment>/log/", CIPushLog.as_view(), name="ci_push_log"),
]
