"""Pages about signatures: whom the portal believes, uploading what key holders signed, and what they have to sign."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.generic import View

from signing.envelope import key_id
from software.forms import EnvelopesForm
from software.models import KeySet, ReleaseManifest, RollbackDecision
from software.signatures import accept_envelopes, request_for, trusted_key_set
from software.views import SoftwareForm, VersionPage
from tickets.clock import now_of
from tickets.views import PortalPage

SHOWN = 100


class Signatures(PortalPage, View):
    """Pinned root keys, the trusted key set, and the newest manifests and decisions."""

    section = "product_list"
    title = gettext_lazy("Signatures")

    def get(self, request: HttpRequest) -> HttpResponse:
        trusted = trusted_key_set()
        keys = trusted.release_keys if trusted is not None else ()
        crumbs = [{"label": _("Software library"), "url": reverse("product_list")}, {"label": str(self.title)}]
        manifests = ReleaseManifest.objects.select_related("version__product", "uploaded_by")
        decisions = RollbackDecision.objects.select_related("from_version__product", "to_version", "uploaded_by")
        context = self.get_context_data(
            title=self.title,
            breadcrumbs=crumbs,
            required=settings.REQUIRE_SIGNATURES,
            roots=settings.SIGNING_ROOT_KEYS,
            trusted=trusted,
            keys=[(key, trusted is not None and key_id(key.key) in trusted.revoked) for key in keys],
            key_sets=list(KeySet.objects.select_related("uploaded_by")[:SHOWN]),
            manifests=list(manifests[:SHOWN]),
            decisions=list(decisions[:SHOWN]),
            now=now_of(request),
            may_manage=request.user.has_perm("software.manage_software"),
        )
        return render(request, "software/signatures.html", context)


class EnvelopeUpload(SoftwareForm):
    form_class = EnvelopesForm
    title = gettext_lazy("Upload signatures")
    intro = gettext_lazy("What the key holder's tool wrote: key sets, release manifests, rollback decisions.")

    def perform(self, instance: Any, data: dict[str, Any]) -> list[str]:
        return accept_envelopes(data["file"], actor=self.request.user, now=now_of(self.request))

    def done(self, result: list[str]) -> str:
        return _("Accepted: %s") % ", ".join(result) if result else _("Nothing new: all of it was here already.")

    def success_url(self, instance: Any, result: Any) -> str:
        return reverse("signatures")


class VersionRequest(VersionPage):
    """The signing request of one version, as a file."""

    def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        version = self.instance(**kwargs)
        content = request_for(str(version), versions=[version], ways_back=(), now=now_of(request))
        name = f"sign-{version.product.slug}-{version.label}.json"
        return JsonResponse(content, headers={"Content-Disposition": f'attachment; filename="{name}"'})

    def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        return HttpResponse(status=405)
