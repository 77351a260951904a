"""`/api/v1/notice-preferences/`: how the person who asks gets notices."""

from typing import Any

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from notifications.kinds import CHOSEN, MANDATORY, URGENT, Kind, Mail, mails_of
from notifications.preferences import Choice, Hours, choices_of, hours_chosen_by, save_preferences
from tickets.api import MAX_BODY_BYTES, check_size
from tickets.clock import now_of


class NoticeChoiceSerializer(serializers.Serializer):
    """One kind of notice. Mandatory ones stay in the bell and come by mail; urgent ones pass quiet hours."""

    kind = serializers.ChoiceField(choices=[(kind.value, kind.label) for kind in CHOSEN])
    mail = serializers.ChoiceField(choices=Mail.choices)
    bell = serializers.BooleanField()
    is_mandatory = serializers.BooleanField(read_only=True)
    is_urgent = serializers.BooleanField(read_only=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["mail"] not in mails_of(attrs["kind"]) or (attrs["kind"] in MANDATORY and not attrs["bell"]):
            raise serializers.ValidationError({"kind": _("This kind cannot be switched off.")})
        return attrs


class NoticePreferencesSerializer(serializers.Serializer):
    """Kinds that are not named stay as they are. Times are on the clock of the person's time zone; Monday is 0."""

    choices = NoticeChoiceSerializer(many=True)  # type: ignore[assignment]
    quiet_from = serializers.TimeField(allow_null=True)
    quiet_until = serializers.TimeField(allow_null=True)
    digest_at = serializers.TimeField()
    digest_weekday = serializers.IntegerField(min_value=0, max_value=6)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if (attrs["quiet_from"] is None) != (attrs["quiet_until"] is None):
            raise serializers.ValidationError({"quiet_until": _("Name both ends of the quiet hours, or neither.")})
        return attrs


class NoticePreferencesView(APIView):
    """Bell and mail for each kind of notice, quiet hours, digests."""

    @extend_schema(operation_id="notice_preferences", responses=NoticePreferencesSerializer)
    def get(self, request: Request) -> Response:
        """How one gets notices."""
        return Response(self.shown(request.user))

    @extend_schema(
        operation_id="notice_preferences_update",
        request=NoticePreferencesSerializer,
        responses=NoticePreferencesSerializer,
    )
    def put(self, request: Request) -> Response:
        """Changes it, also for what waits already."""
        check_size(request, MAX_BODY_BYTES)
        given = NoticePreferencesSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        values = given.validated_data
        choices = {Kind(row["kind"]): Choice(row["mail"], row["bell"]) for row in values.pop("choices")}
        person: Any = request.user
        save_preferences(person, choices, Hours(**values), now=now_of(request))
        return Response(self.shown(person))

    def shown(self, person: Any) -> dict[str, Any]:
        person.refresh_from_db()
        hours = hours_chosen_by(person)
        rows = [
            {
                "kind": kind,
                "mail": choice.mail,
                "bell": choice.bell,
                "is_mandatory": kind in MANDATORY,
                "is_urgent": kind in URGENT,
            }
            for kind, choice in choices_of(person).items()
        ]
        values = {name: getattr(hours, name) for name in ("quiet_from", "quiet_until", "digest_at", "digest_weekday")}
        data: dict[str, Any] = NoticePreferencesSerializer({"choices": rows, **values}).data
        return data
