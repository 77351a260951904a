"""What people do to a single deployment, from the page of its CI."""

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.views.generic import View

from distribution import stopping
from distribution.models import Deployment
from tickets.clock import now_of
from tickets.links import page_of_object
from tickets.views import PortalPage

VERBS = {"cancel": stopping.cancel_deployment, "force_quit": stopping.force_quit_deployment}


class DeploymentStop(PortalPage, View):
    """Cancels a deployment, or closes its cancellation without the device."""

    http_method_names = ["post"]
    permission = stopping.STOP

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        visible = Deployment.objects.visible_to(request.user).select_related("ci")
        deployment = get_object_or_404(visible, pk=pk)
        verb = VERBS.get(request.POST.get("verb", ""))
        if verb is None:
            raise Http404
        verb(deployment, actor=request.user, now=now_of(request), reason=request.POST.get("reason", ""))
        return HttpResponseRedirect(page_of_object(deployment.ci))
