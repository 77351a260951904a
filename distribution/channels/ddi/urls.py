"""The fixed addresses of the Direct Device Integration API; devices build some of them themselves."""

from django.urls import path

from distribution.channels.ddi import signed_links, views

_BASE = "<str:tenant>/controller/v1/<str:controller_id>"

urlpatterns = [
    path(_BASE, views.poll, name="ddi_poll"),
    path(f"{_BASE}/configData", views.config_data, name="ddi_config_data"),
    path(f"{_BASE}/deploymentBase/<str:action>", views.deployment_base, name="ddi_deployment"),
    path(f"{_BASE}/deploymentBase/<str:action>/feedback", views.feedback, name="ddi_feedback"),
    path(f"{_BASE}/cancelAction/<str:action>", views.cancel_action, name="ddi_cancel"),
    path(f"{_BASE}/cancelAction/<str:action>/feedback", views.cancel_feedback, name="ddi_cancel_feedback"),
    path(f"{_BASE}/installedBase", views.declare_installed, name="ddi_declare_installed"),
    path(f"{_BASE}/installedBase/<str:action>", views.installed_base, name="ddi_installed"),
    path(f"{_BASE}/softwaremodules/<str:module>/artifacts", views.artifacts, name="ddi_artifacts"),
    path(f"{_BASE}/softwaremodules/<str:module>/artifacts/<str:filename>", views.artifact, name="ddi_artifact"),
    path("downloads/<int:artifact>/<int:until>/<str:given>/<str:filename>", signed_links.download, name="ddi_signed"),
]
