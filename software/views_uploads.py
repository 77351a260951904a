"""The upload form: one file with its form, or, where scripts run, in pieces that survive a broken connection."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.generic import View

from software import services, uploads
from software.forms import ArtifactForm
from software.models import Format, Upload, Version
from software.pieces import Nothing
from software.views import VersionPage
from tickets.clock import now_of
from tickets.exceptions import DomainError, InvalidInput
from tickets.views import PortalPage

# Small enough that a break costs little and each counts soon.
PIECE_BYTES = 8 * 1024 * 1024


class ArtifactUpload(VersionPage):
    """The plain form; its script sends the same file in pieces to `UploadBegin` instead."""

    form_class = ArtifactForm
    template_name = "software/upload.html"
    title = gettext_lazy("Upload the file")

    def perform(self, instance: Version, data: dict[str, Any]) -> Any:
        return services.store_artifact(
            instance,
            actor=self.request.user,
            now=now_of(self.request),
            filename=data["file"].name,
            stream=data["file"],
            sha256=data["sha256"].lower(),
            format=data["format"],
            more=data["more"],
        )

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**{"piece_bytes": PIECE_BYTES, **kwargs})


class BeginForm(forms.Form):
    """What the script says before the first piece."""

    filename = forms.CharField(max_length=128)
    size = forms.IntegerField(min_value=1)
    sha256 = forms.RegexField(r"^[0-9a-fA-F]{64}$", required=False)
    format = forms.ChoiceField(choices=[("", ""), *Format.choices], required=False)
    more = forms.BooleanField(required=False)


class UploadPage(PortalPage, View):
    """Answers in JSON; a refusal tells `message`, `code` and what belongs to it."""

    permission = "software.manage_software"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().dispatch(request, *args, **kwargs)
        except DomainError as error:
            told = {"message": error.message, "code": error.code, **error.detail}
            return JsonResponse(told, status=error.status)

    def state(self, upload: Upload, **more: Any) -> JsonResponse:
        url = reverse("upload_piece", args=[upload.pk])
        return JsonResponse({"url": url, "received": upload.received, "size": upload.size, **more})


class UploadBegin(UploadPage):
    http_method_names = ["post"]

    def post(self, request: HttpRequest, slug: str, label: str) -> HttpResponse:
        rows = Version.objects.select_related("product")
        version = get_object_or_404(rows, product__slug=slug, label=label.replace("\0", ""))
        form = BeginForm(request.POST)
        if not form.is_valid():
            field, texts = next(iter(form.errors.items()))
            raise InvalidInput(str(texts[0]), field=str(field))
        upload = uploads.begin_upload(actor=request.user, now=now_of(request), version=version, **form.cleaned_data)
        return self.state(upload)


class UploadPiece(UploadPage):
    """One's own upload: how far it is (GET), the next piece (PUT), the end of it (POST), given up (DELETE)."""

    http_method_names = ["get", "put", "post", "delete"]

    def find(self, pk: int) -> Upload:
        rows = Upload.objects.visible_to(self.request.user).select_related("version__product")
        return get_object_or_404(rows, pk=pk)

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self.state(self.find(pk))

    def put(self, request: HttpRequest, pk: int) -> HttpResponse:
        upload = self.find(pk)
        size, offset = request.META.get("CONTENT_LENGTH") or "", request.GET.get("offset", "")
        if not (size.isdecimal() and offset.isdecimal()) or int(size) > PIECE_BYTES:
            raise InvalidInput(_("A piece has at most %d bytes and says where it begins.") % PIECE_BYTES)
        stream = request if int(size) else Nothing()
        uploads.write_piece(upload, actor=request.user, now=now_of(request), offset=int(offset), stream=stream)
        return self.state(upload)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        upload = self.find(pk)
        artifact = uploads.finish_upload(upload, actor=request.user, now=now_of(request), as_it_is=not upload.sha256)
        messages.success(request, _("Stored: %(object)s") % {"object": artifact})
        return self.state(upload, page=reverse("product_detail", args=[upload.version.product.slug]))

    def delete(self, request: HttpRequest, pk: int) -> HttpResponse:
        uploads.abandon_upload(self.find(pk), actor=request.user)
        return HttpResponse(status=204)
