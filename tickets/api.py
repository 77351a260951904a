"""What the API shares: objects by number, their list and detail, verbs that call services, refusals as standard errors.

A viewset names its model, its serializers and, in `calls`, one `Call` for each verb: POST `<object>/<verb>/` reads the
verb's input, calls the service, and answers with the object after the change. It decides nothing itself.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.http import Http404
from django.utils.translation import gettext as _
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, ParseError
from rest_framework.filters import OrderingFilter
from rest_framework.pagination import LimitOffsetPagination
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import GenericViewSet

from tickets.activities import Activity
from tickets.api_attachments import AttachmentsMixin
from tickets.clock import now_of
from tickets.exceptions import PermissionRefused
from tickets.history import as_read
from tickets.idempotency import RepeatableMixin
from tickets.lifecycle import check_permission, check_right
from tickets.models import Priority
from tickets.numbers import parse_number
from tickets.serializers import CommentSerializer, EntrySerializer, NothingSerializer, is_storable, key_of

MAX_BODY_BYTES = 1024 * 1024


class BodyTooLarge(APIException):
    """More bytes than the server takes (HTTP 413)."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"


class TextParser(JSONParser):
    """JSON whose texts the database can hold, not nested without end; anything else is 400, never a server error."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            data = super().parse(stream, media_type, parser_context)
            _check_texts(data)
        except RecursionError as error:
            raise ParseError(_("The JSON is nested too deeply.")) from error
        return data


def _check_texts(data: Any) -> None:
    if isinstance(data, str):
        if not is_storable(data):
            raise ParseError(_("The JSON contains characters that cannot be stored."))
    elif isinstance(data, dict):
        for key, value in data.items():
            _check_texts(key)
            _check_texts(value)
    elif isinstance(data, list):
        for value in data:
            _check_texts(value)


class Pages(LimitOffsetPagination):
    """`?limit=` (at most 500) and `?offset=`."""

    default_limit = 50
    max_limit = 500
    max_offset = 10_000_000

    def get_offset(self, request: Request) -> int:
        return min(super().get_offset(request), self.max_offset)


@dataclass(frozen=True, slots=True)
class Call:
    """One verb: the service that does it, and what it takes.

    `permission` is checked before the input is read, for verbs that are no transition (those carry their own): a right,
    or a question about object and person.
    `gives` answers with the service's result instead of the object, as that serializer shows it; with `is_secret` the
    answer is never kept.
    """

    service: Callable[..., Any]
    takes: type[BaseSerializer] = NothingSerializer
    permission: str | Callable[[Any, Any], bool] = ""
    gives: type[BaseSerializer] | None = None
    status: int = status.HTTP_200_OK
    summary: str = ""
    is_secret: bool = False


class ObjectViewSet(RepeatableMixin, mixins.ListModelMixin, mixins.RetrieveModelMixin, GenericViewSet):
    """Objects that a person may see: `visible_to` decides, what is not visible does not exist."""

    model: ClassVar[type[models.Model]]
    list_serializer_class: ClassVar[type[BaseSerializer] | None] = None
    list_related: ClassVar[tuple[str, ...]] = ()
    detail_related: ClassVar[tuple[str, ...]] = ()
    calls: ClassVar[Mapping[str, Call]] = {}
    creates: ClassVar[Call | None] = None
    edits: ClassVar[Call | None] = None
    body_limit: int = MAX_BODY_BYTES

    parser_classes: Any = [TextParser]
    pagination_class = Pages
    filter_backends = [filters.DjangoFilterBackend, OrderingFilter]
    ordering_fields: Any = ["id"]
    ordering = ["-id"]
    lookup_field = "pk"
    lookup_url_kwarg = "number"
    lookup_value_converter = "str"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "model" not in vars(cls):
            return
        cls.queryset = cls.model._default_manager.all()
        noun = cls.model._meta.model_name or ""
        cls.secret_actions = frozenset(f"do_{name}" for name, call in cls.calls.items() if call.is_secret)
        for name, call in cls.calls.items():
            setattr(cls, f"do_{name}", _verb_action(cls, noun, name, call))
        if cls.creates is not None:
            cls.create = _create_action(cls, noun, cls.creates)  # type: ignore[attr-defined]
        if cls.edits is not None:
            cls.partial_update = _edit_action(cls, noun, cls.edits)  # type: ignore[attr-defined]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        check_size(request, self.body_limit)
        super().initial(request, *args, **kwargs)

    def get_serializer_class(self) -> Any:
        if self.action == "list" and self.list_serializer_class is not None:
            return self.list_serializer_class
        return super().get_serializer_class()

    def visible(self) -> models.QuerySet[Any]:
        """Everything of this kind that the person may see."""
        manager = self.model._default_manager
        if getattr(self, "swagger_fake_view", False):
            return manager.none()
        if hasattr(manager, "visible_to"):
            found: models.QuerySet[Any] = manager.visible_to(self.request.user)
            return found
        return manager.all()

    def get_queryset(self) -> models.QuerySet[Any]:
        related = self.list_related if self.action == "list" else (*self.list_related, *self.detail_related)
        return self.visible().select_related(*related) if related else self.visible()

    def get_object(self) -> Any:
        key = key_of(self.model, self.kwargs[self.lookup_url_kwarg])
        found = self.get_queryset().filter(pk=key).first() if key is not None else None
        if found is None:
            raise Http404
        return found

    def after(self, instance: Any) -> Any:
        """The object as it is after a verb; the person saw it before, so he sees what he made of it."""
        related = (*self.list_related, *self.detail_related)
        rows = self.model._default_manager.all()
        return (rows.select_related(*related) if related else rows).get(pk=instance.pk)

    def answer(self, instance: Any, code: int = status.HTTP_200_OK) -> Response:
        return Response(self.get_serializer(instance).data, status=code)

    def unchanged(self, instance: Any) -> AbstractContextManager[None]:
        """Refuses (409) when the request names a version of the object that it is not any more."""
        return nullcontext()

    def read(self, takes: type[BaseSerializer], *, partial: bool = False) -> dict[str, Any]:
        """The verb's input, checked; raises ValidationError (400)."""
        serializer = takes(data=self.request.data, partial=partial, context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def asked(self, takes: type[BaseSerializer]) -> dict[str, Any]:
        """What the address asks for, checked; raises ValidationError (400)."""
        serializer = takes(data=self.request.query_params, context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)

    def paged(self, rows: models.QuerySet[Any], serializer: type[BaseSerializer], **context: Any) -> Response:
        """One page of rows that belong to the object."""
        page = self.paginate_queryset(rows)
        context = {**self.get_serializer_context(), **context}
        return self.get_paginated_response(serializer(page, many=True, context=context).data)


def check_size(request: Request, limit: int) -> None:
    """Refuses a body that announces more than `limit` bytes before a byte of it is read (413)."""
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        length = 0
    if length > limit:
        text = _("The request has %(size)d bytes; at most %(limit)d are taken.")
        raise BodyTooLarge(text % {"size": length, "limit": limit})


def check_verb(instance: Any, name: str, call: Call, user: Any) -> None:
    """Refuses who lacks the right, before his input is read; the service checks again."""
    if callable(call.permission):
        if not call.permission(instance, user):
            raise PermissionRefused(_("You may not “%(label)s” here.") % {"label": name})
    elif call.permission:
        check_permission(user, call.permission, f"“{name}”")
    check_right(instance, name, actor=user)


def _verb_action(cls: type[ObjectViewSet], noun: str, name: str, call: Call) -> Any:
    def run(self: ObjectViewSet, request: Request, **kwargs: Any) -> Response:
        instance = self.get_object()
        check_verb(instance, name, call, request.user)
        values = self.read(call.takes)
        with self.unchanged(instance):
            result = call.service(instance, actor=request.user, now=now_of(request), **values)
        if call.gives is not None:
            shown = call.gives(result, context=self.get_serializer_context())
            return Response(shown.data, status=call.status)
        return self.answer(self.after(instance), call.status)

    run.__name__ = f"do_{name}"
    run.__doc__ = call.summary or (call.service.__doc__ or name).strip().splitlines()[0]
    verb = action(detail=True, methods=["post"], url_path=name, url_name=name.replace("_", "-"))(run)
    # After `action`, which begins with a clean description.
    return extend_schema(
        operation_id=f"{noun}_{name}",
        request=None if call.takes is NothingSerializer else call.takes,
        responses={call.status: call.gives or cls.serializer_class},
    )(verb)


def _create_action(cls: type[ObjectViewSet], noun: str, call: Call) -> Any:
    def create(self: ObjectViewSet, request: Request, **kwargs: Any) -> Response:
        check_verb(None, noun, call, request.user)
        values = self.read(call.takes)
        made = call.service(actor=request.user, now=now_of(request), **values)
        return self.answer(self.after(made), status.HTTP_201_CREATED)

    create.__doc__ = call.summary or (call.service.__doc__ or "").strip().splitlines()[0]
    return extend_schema(operation_id=f"{noun}_create", request=call.takes, responses={201: cls.serializer_class})(
        create
    )


def _edit_action(cls: type[ObjectViewSet], noun: str, call: Call) -> Any:
    def partial_update(self: ObjectViewSet, request: Request, **kwargs: Any) -> Response:
        instance = self.get_object()
        check_verb(instance, "partial_update", call, request.user)
        values = self.read(call.takes, partial=True)
        with self.unchanged(instance):
            call.service(instance, actor=request.user, now=now_of(request), **values)
        return self.answer(self.after(instance))

    partial_update.__doc__ = call.summary or (call.service.__doc__ or "").strip().splitlines()[0]
    return extend_schema(operation_id=f"{noun}_edit", request=call.takes, responses={200: cls.serializer_class})(
        partial_update
    )


class NumberFilter(filters.CharFilter):
    """`?problem=PRB-0000003`: a number in any spelling, or a key; what is neither matches nothing."""

    def __init__(self, model: type[models.Model], field_name: str) -> None:
        self.model_named = model
        super().__init__(field_name=field_name, label=f"Number or id: {model._meta.verbose_name}.", max_length=40)

    def filter(self, qs: Any, value: str) -> Any:
        if not value:
            return qs
        key = key_of(self.model_named, value)
        return qs.filter(**{str(self.field_name): key}) if key is not None else qs.none()


class MomentFilter(filters.IsoDateTimeFilter):
    """A time in ISO 8601; one that the database could not compare with, in any zone, is refused."""

    def __init__(self, **kwargs: Any) -> None:
        first, last = datetime(1900, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)
        super().__init__(**kwargs, validators=[MinValueValidator(first), MaxValueValidator(last)])


class TicketFilter(filters.FilterSet):
    """How lists of tickets are narrowed. A value may be given several times where that makes sense."""

    open = filters.BooleanFilter(method="only_open", label="Only what is not finished (or, with false, what is).")
    mine = filters.BooleanFilter(method="only_mine", label="Requested by or assigned to the person who asks.")
    priority = filters.MultipleChoiceFilter(choices=Priority.choices)
    activity = filters.ChoiceFilter(choices=Activity.choices)
    requester = filters.CharFilter(field_name="requester__username", label="User name.")
    assignee = filters.CharFilter(field_name="assignee__username", label="User name.")
    team = filters.CharFilter(field_name="team__name", label="Name of the team.")
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")
    q = filters.CharFilter(method="search", label="A number in any spelling, or words of title and description.")

    def only_open(self, rows: Any, name: str, value: bool) -> Any:
        opened = rows.model._default_manager.open().values("pk")
        return rows.filter(pk__in=opened) if value else rows.exclude(pk__in=opened)

    def only_mine(self, rows: Any, name: str, value: bool) -> Any:
        user = self.request.user
        mine = Q(requester=user) | Q(assignee=user)
        return rows.filter(mine) if value else rows.exclude(mine)

    def search(self, rows: Any, name: str, value: str) -> Any:
        number = parse_number(value)
        if number is not None:
            return rows.filter(pk=number[1]) if number[0] == rows.model.PREFIX else rows.none()
        return rows.filter(Q(title__icontains=value) | Q(description__icontains=value))


def state_filter(model: Any) -> filters.MultipleChoiceFilter:
    """`?state=new&state=assigned`."""
    return filters.MultipleChoiceFilter(choices=model.State.choices)


class TicketViewSet(AttachmentsMixin, ObjectViewSet):
    """Tickets: as objects, with timeline and comments. `see_all` is the right that also shows internal notes."""

    see_all: ClassVar[str]
    list_related: ClassVar[tuple[str, ...]] = ("requester", "assignee", "team")
    detail_related: ClassVar[tuple[str, ...]] = ("created_by",)
    ordering_fields = ["id", "priority", "state", "created_at", "updated_at", "title"]

    def unchanged(self, instance: Any) -> AbstractContextManager[None]:
        """`If-Match: "7"` does it only to that version of the ticket; else 409 with what was changed since."""
        wanted = self.request.headers.get("If-Match", "").strip()
        if wanted in ("", "*"):
            return nullcontext()
        version = wanted.removeprefix("W/").strip('"')
        if not version.isdecimal() or len(version) > 9:
            raise ParseError(_('If-Match takes the version of the ticket, for example "7".'))
        return as_read(instance, int(version), reader=self.request.user)

    @extend_schema(
        responses=EntrySerializer(many=True),
        parameters=[OpenApiParameter("newest_first", bool, description="Newest entry first.")],
    )
    @action(detail=True, methods=["get"], filter_backends=[])
    def timeline(self, request: Request, **kwargs: Any) -> Response:
        """What happened, in words, oldest first; internal notes only for those who see every ticket of this kind."""
        entries = self.get_object().entries.select_related("author").prefetch_related("attachments")
        if not request.user.has_perm(self.see_all):
            entries = entries.filter(is_public=True)
        if request.query_params.get("newest_first", "").lower() in {"1", "true"}:
            entries = entries.order_by("-created_at", "-id")
        return self.paged(entries, EntrySerializer)


def comment_call(service: Callable[..., Any], see_all: str) -> Call:
    """The verb `comment`; an internal note needs the right that also shows internal notes."""

    def comment(instance: Any, *, actor: Any, now: Any, text: str, public: bool, files: Any = ()) -> Any:
        if not public:
            check_permission(actor, see_all, "“internal note”")
        return service(instance, actor=actor, now=now, text=text, public=public, files=files)

    return Call(comment, CommentSerializer, summary="Says something, to all or, as an internal note, to staff.")
