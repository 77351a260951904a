"""The portal's addresses. Every app brings its own; devices have the prefix of their tenant."""

from django.contrib import admin
from django.urls import path

urlpatterns = [
    path("admin/", admin.site.urls),
]
