from django.urls import path

from software.views import (
    ProductCreate,
    ProductDetail,
    ProductList,
    VersionCreate,
    VersionRestore,
    VersionWithdraw,
)
from software.views_sboms import Components, SbomUpload, VersionDetail
from software.views_signatures import EnvelopeUpload, Signatures, VersionRequest
from software.views_uploads import ArtifactUpload, UploadBegin, UploadPiece

urlpatterns = [
    path("", ProductList.as_view(), name="product_list"),
    path("new/", ProductCreate.as_view(), name="product_create"),
    path("signatures/", Signatures.as_view(), name="signatures"),
    path("signatures/upload/", EnvelopeUpload.as_view(), name="envelope_upload"),
    path("uploads/<int:pk>/", UploadPiece.as_view(), name="upload_piece"),
    path("components/", Components.as_view(), name="components"),
    path("<slug:slug>/", ProductDetail.as_view(), name="product_detail"),
    path("<slug:slug>/versions/new/", VersionCreate.as_view(), name="version_create"),
    path("<slug:slug>/versions/<str:label>/", VersionDetail.as_view(), name="version_detail"),
    path("<slug:slug>/versions/<str:label>/sbom/", SbomUpload.as_view(), name="sbom_upload"),
    path("<slug:slug>/versions/<str:label>/upload/", ArtifactUpload.as_view(), name="artifact_upload"),
    path("<slug:slug>/versions/<str:label>/upload/begin/", UploadBegin.as_view(), name="upload_begin"),
    path("<slug:slug>/versions/<str:label>/withdraw/", VersionWithdraw.as_view(), name="version_withdraw"),
    path("<slug:slug>/versions/<str:label>/restore/", VersionRestore.as_view(), name="version_restore"),
    path("<slug:slug>/versions/<str:label>/request/", VersionRequest.as_view(), name="version_request"),
]
