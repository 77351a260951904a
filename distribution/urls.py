from django.urls import path

from distribution.views import DeploymentStop

urlpatterns = [
    path("<int:pk>/stop/", DeploymentStop.as_view(), name="deployment_stop"),
]
