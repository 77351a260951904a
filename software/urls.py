from django.urls import path

from software.views import ArtifactUpload, ProductCreate, ProductDetail, ProductList, VersionCreate, VersionWithdraw

urlpatterns = [
    path("", ProductList.as_view(), name="product_list"),
    path("new/", ProductCreate.as_view(), name="product_create"),
    path("<slug:slug>/", ProductDetail.as_view(), name="product_detail"),
    path("<slug:slug>/versions/new/", VersionCreate.as_view(), name="version_create"),
    path("<slug:slug>/versions/<str:label>/upload/", ArtifactUpload.as_view(), name="artifact_upload"),
    path("<slug:slug>/versions/<str:label>/withdraw/", VersionWithdraw.as_view(), name="version_withdraw"),
]
