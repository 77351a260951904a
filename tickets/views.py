"""The skeletons of the portal's pages: detail, verb, form (lists: `tickets.views_list`). An app's page names its model,
forms and services.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from django.contrib import messages
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.generic import View
from django.views.generic.base import ContextMixin

from tickets.attachments import works_on
from tickets.clock import now_of
from tickets.exceptions import DomainError, EditConflict, InvalidInput
from tickets.forms import PortalForm
from tickets.history import as_read
from tickets.lifecycle import check_right
from tickets.links import page_of_object
from tickets.numbers import parse_number
from tickets.people import may_look_for_people
from tickets.timeline import read_part, sees_notes
from tickets.verbs import VerbPage, buttons_for
from tickets.watching import may_add_watchers


class PortalPage(LoginRequiredMixin, ContextMixin):
    """A page for people who have signed in. `section` marks the navigation; `permission` is refused with 403."""

    section = ""
    title: Any = ""
    permission = ""
    # For forms: the page of the object, whose facts they edit in their place.
    detail_page: "type[DetailPage] | None" = None
    request: HttpRequest

    @property
    def person(self) -> Any:
        """Who asks; a page is reached only after signing in."""
        return self.request.user

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if request.user.is_authenticated and not self.is_permitted(request.user):
            raise PermissionDenied
        return super().dispatch(request, *args, **kwargs)  # type: ignore[misc]

    def is_permitted(self, user: Any) -> bool:
        return not self.permission or user.has_perm(self.permission)

    def crumbs(self) -> list[dict[str, str]]:
        """The breadcrumbs after “Home”; the last one has no address."""
        return [{"label": str(self.title)}]

    def place(self, instance: Any, address: str) -> str:
        """The fact that this form edits in its place, if the object's page offers that at this address.

        Empty: the form stands by itself, as it always does without scripts.
        """
        name = self.request.GET.get("inline", "") if is_fragment(self.request) else ""
        if not name or self.detail_page is None:
            return ""
        offered = self.detail_page(request=self.request).editable(instance)
        return name if offered.get(name) == action_of(address, name) else ""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(
            **{"section": self.section, "title": self.title, "breadcrumbs": self.crumbs(), **kwargs}
        )


class ObjectPage(PortalPage, View):
    """A page about one numbered object; what the person may not see does not exist for him."""

    model: Any
    related: tuple[str, ...] = ()
    list_url_name = ""

    def queryset(self) -> Any:
        return self.model.objects.visible_to(self.request.user).select_related(*self.related)

    def find(self, number: str) -> Any:
        """The visible object with this number in any spelling, else 404."""
        found = parse_number(number)
        if found is None or found[0] != self.model.PREFIX:
            raise Http404
        instance = self.queryset().filter(pk=found[1]).first()
        if instance is None:
            raise Http404
        return instance

    def crumbs_of(self, instance: Any, *more: str) -> list[dict[str, str]]:
        """List, object and what follows."""
        plural = str(self.model._meta.verbose_name_plural)
        crumbs = [{"label": plural[:1].upper() + plural[1:], "url": reverse(self.list_url_name)}]
        crumbs.append({"label": instance.number, "url": page_of_object(instance) if more else ""})
        return [*crumbs, *({"label": label} for label in more)]


class DetailPage(ObjectPage):
    """The page of a ticket or of another object with verbs: buttons, timeline, composer."""

    template_name = ""
    verbs: Mapping[str, VerbPage] = {}
    verb_url_name = ""

    def get(self, request: HttpRequest, number: str) -> HttpResponse:
        instance = self.find(number)
        context = self.get_context_data(
            object=instance,
            title=str(instance),
            breadcrumbs=self.crumbs_of(instance),
            buttons=buttons_for(instance, request.user, self.verbs, self.verb_url_name),
            editable=self.editable(instance),
            **self.timeline(instance),
            **self.details(instance),
        )
        return render(request, self.template_name, context)

    def details(self, instance: Any) -> dict[str, Any]:
        """What this kind of object shows besides."""
        return {}

    def editable(self, instance: Any) -> dict[str, str]:
        """The addresses of the forms that edit a fact in its place, by the fact's name; see `inline_of`."""
        return {}

    def inline_of(self, instance: Any, verb: str, *names: str) -> dict[str, str]:
        """These facts, edited by the form of this verb: of the field with that name alone, where there is one."""
        address = reverse(self.verb_url_name, args=[instance.number, verb])
        return {name: action_of(address, name) for name in names}

    def timeline(self, instance: Any) -> dict[str, Any]:
        """The newest entries that the person may read, the composer, and who watches."""
        if not hasattr(instance, "entries"):
            return {}
        user, asked = self.request.user, self.request.GET
        before = int(asked["before"]) if asked.get("before", "").isdecimal() and len(asked["before"]) < 19 else None
        watchers = list(instance.watchers.order_by("username"))
        return {
            "part": read_part(instance, user, only=asked.get("only", ""), before=before),
            "sees_notes": sees_notes(instance, user),
            "works_on": works_on(instance, user),
            "comment_url": reverse(self.verb_url_name, args=[instance.number, "comment"]),
            "watchers": watchers,
            "is_watching": user in watchers,
            "may_add_watchers": may_add_watchers(instance, user),
            "may_look_for_people": may_look_for_people(user),
        }


class VerbPageView(ObjectPage):
    """One verb of one object: GET shows its form, POST calls its service. Refusals stand in the form, text kept."""

    http_method_names = ["get", "post"]
    verbs: Mapping[str, VerbPage] = {}
    verb_url_name = ""
    services: ModuleType
    noun = ""
    # Whether an order goes with the version of the ticket that the person had before him.
    is_versioned = False

    def get(self, request: HttpRequest, number: str, verb: str) -> HttpResponse:
        instance, page = self.find(number), self.page(verb)
        self.check(instance, page)
        initial = {name: request.GET[name] for name in page.form.base_fields if name in request.GET}
        form = page.form(instance=instance, user=request.user, initial=initial)
        form.narrow(self.place(instance, self.address(instance, verb)))
        if page.panel is not None and "panel" in request.GET:
            context = {"panel": page.panel(instance, request, form), "object": instance}
            return render(request, page.panel_template, context)
        return self.show(instance, verb, form)

    def post(self, request: HttpRequest, number: str, verb: str) -> HttpResponse:
        instance, page = self.find(number), self.page(verb)
        self.check(instance, page)
        form = page.form(request.POST, request.FILES, instance=instance, user=request.user)
        form.narrow(self.place(instance, self.address(instance, verb)))
        form.take_files(now_of(request))
        if not form.is_valid() or "preview" in request.POST:
            return self.show(instance, verb, form, status=200 if form.is_valid() else 400)
        # A comment changes nothing that somebody else could have changed.
        is_bound = self.is_versioned and verb != "comment" and "expected_version" in request.POST
        try:
            # Who may not do it is not told what others changed.
            check_right(instance, verb, actor=request.user)
            with as_read(instance, form.version_read if is_bound else None, reader=request.user):
                result = self.call(instance, verb, page, form)
        except DomainError as error:
            refuse(form, error)
            return self.show(instance, verb, form, status=error.status)
        return self.finish(instance, verb, page, result)

    def page(self, verb: str) -> VerbPage:
        if verb not in self.verbs:
            raise Http404
        return self.verbs[verb]

    def check(self, instance: Any, page: VerbPage) -> None:
        """Rights of verbs that are no transition; the lifecycle checks the others itself when the service moves."""
        if page.right:
            may = self.request.user.has_perm(page.right)
        else:
            may = page.allowed is None or page.allowed(instance, self.request.user)
        if not may:
            raise PermissionDenied

    def call(self, instance: Any, verb: str, page: VerbPage, form: PortalForm) -> Any:
        service = getattr(self.services, page.service or f"{verb}_{self.noun}")
        return service(instance, actor=self.request.user, now=now_of(self.request), **form.cleaned_data)

    def finish(self, instance: Any, verb: str, page: VerbPage, result: Any) -> HttpResponse:
        if verb != "comment":
            label = page.done or _("%(object)s: %(verb)s, done.") % {
                "object": instance.number,
                "verb": str(page.label) or self.label(instance, verb),
            }
            messages.success(self.request, str(label))
        return HttpResponseRedirect(page_of_object(instance))

    def address(self, instance: Any, verb: str) -> str:
        return reverse(self.verb_url_name, args=[instance.number, verb])

    def label(self, instance: Any, verb: str) -> str:
        method = getattr(instance, verb, None)
        transitions = getattr(getattr(method, "_django_fsm", None), "transitions", {})
        label = next((t.custom.get("label") for t in transitions.values()), None)
        return str(label or self.verbs[verb].label or verb.replace("_", " "))

    def show(self, instance: Any, verb: str, form: PortalForm, status: int = 200) -> HttpResponse:
        page = self.verbs[verb]
        label = self.label(instance, verb)
        address = self.address(instance, verb)
        place = self.place(instance, address)
        transitions = getattr(getattr(getattr(instance, verb, None), "_django_fsm", None), "transitions", {})
        style = page.style or str(next((t.custom.get("style") for t in transitions.values()), "primary"))
        context = self.get_context_data(
            object=instance,
            form=form,
            label=label,
            style=style,
            preview=page.preview(instance) if page.preview else "",
            panel=page.panel(instance, self.request, form) if page.panel else None,
            panel_template=page.panel_template,
            title=f"{label}: {instance.number}",
            breadcrumbs=self.crumbs_of(instance, label),
            action=action_of(address, place),
        )
        if place:
            return in_place(self.request, context, place, status)
        template = "tickets/_verb_form.html" if is_fragment(self.request) else "tickets/verb_form.html"
        response = render(self.request, template, context, status=status)
        if is_fragment(self.request):
            response["HX-Retarget"] = "#verb-form"
            response["HX-Reswap"] = "innerHTML"
        return response


class ServiceFormPage(PortalPage, View):
    """A form page whose POST calls one service. Subclasses write `perform` and may fill `initial`."""

    form_class: type[PortalForm]
    template_name = "tickets/ticket_form.html"
    submit_label: Any = ""
    list_url_name = ""
    intro: Any = ""

    def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        instance = self.instance(**kwargs)
        form = self.form_class(initial=self.initial(instance), instance=instance, user=request.user)
        form.narrow(self.place(instance, request.path))
        return self.show(instance, form)

    def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        instance = self.instance(**kwargs)
        form = self.form_class(
            request.POST, request.FILES, initial=self.initial(instance), instance=instance, user=request.user
        )
        form.narrow(self.place(instance, request.path))
        form.take_files(now_of(request))
        if not form.is_valid():
            return self.show(instance, form, status=400)
        try:
            result = self.perform(instance, form.cleaned_data)
        except DomainError as error:
            refuse(form, error)
            return self.show(instance, form, status=error.status)
        messages.success(request, self.done(result))
        return HttpResponseRedirect(self.success_url(instance, result))

    def instance(self, **kwargs: Any) -> Any:
        """The object that the form is about; None for a new one."""
        return None

    def initial(self, instance: Any) -> dict[str, Any]:
        return {}

    def perform(self, instance: Any, data: dict[str, Any]) -> Any:
        raise NotImplementedError

    def done(self, result: Any) -> str:
        return _("Saved: %(object)s") % {"object": getattr(result, "number", result)}

    def success_url(self, instance: Any, result: Any) -> str:
        return page_of_object(result if result is not None else instance)

    def form_crumbs(self, instance: Any) -> list[dict[str, str]]:
        crumbs = (
            [{"label": str(self.section_label()), "url": reverse(self.list_url_name)}] if self.list_url_name else []
        )
        if instance is not None:
            crumbs.append({"label": getattr(instance, "number", str(instance)), "url": page_of_object(instance)})
        return [*crumbs, {"label": str(self.title)}]

    def section_label(self) -> Any:
        return _("List")

    def show(self, instance: Any, form: PortalForm, status: int = 200) -> HttpResponse:
        place = self.place(instance, self.request.path)
        context = self.get_context_data(
            object=instance,
            form=form,
            intro=self.intro,
            submit_label=self.submit_label or self.title,
            cancel_url=page_of_object(instance) if instance is not None else reverse(self.list_url_name or "home"),
            breadcrumbs=self.form_crumbs(instance),
            action=action_of(self.request.path, place),
        )
        if place:
            return in_place(self.request, context, place, status)
        return render(self.request, self.template_name, context, status=status)


def refuse(form: PortalForm, error: DomainError) -> None:
    """Puts a refusal of the domain where the person typed: at its field, else above the form."""
    if isinstance(error, EditConflict):
        form.show_conflict(error)
        return
    field = error.field if isinstance(error, InvalidInput) and error.field in form.fields else None
    form.add_error(field, error.message)


def is_fragment(request: HttpRequest) -> bool:
    """Whether htmx asks, for a part of a page."""
    return bool(getattr(request, "htmx", False))


def action_of(address: str, place: str) -> str:
    """Where a form is sent: an answer comes back to the same place."""
    return f"{address}?inline={place}" if place else address


def in_place(request: HttpRequest, context: dict[str, Any], place: str, status: int) -> HttpResponse:
    """A form in the place of the fact that it edits."""
    response = render(request, "tickets/_inline_form.html", {**context, "place": place}, status=status)
    response["HX-Retarget"] = f"#inline-{place}"
    response["HX-Reswap"] = "innerHTML"
    return response
