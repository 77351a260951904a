"""`/api/v1/calendar/` and `/api/v1/calendar-feeds/`."""

from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.models import CalendarFeed
from cmdb.models import ConfigurationItem
from itsm_portal.calendar.entries import KINDS, Wanted, entries_between
from itsm_portal.calendar.feeds import feed_address, make_feed, revoke_feed
from tickets.api import Call, ObjectViewSet
from tickets.clock import now_of
from tickets.exceptions import InvalidInput
from tickets.serializers import MomentField, NumberField

MOST_DAYS = 400
KIND_CHOICES = [(kind, str(kind)) for kind in KINDS]


class AskedCalendarSerializer(serializers.Serializer):
    after = MomentField(required=False, help_text="Beginning of the period; now if it is not given.")
    before = MomentField(required=False, help_text="Its end; four weeks later if it is not given.")
    kind = serializers.MultipleChoiceField(choices=KIND_CHOICES, required=False)
    ci = NumberField(ConfigurationItem, required=False, help_text="Only what concerns this CI.")
    mine = serializers.BooleanField(default=False)


class CalendarEntrySerializer(serializers.Serializer):
    """`is_actual`: it happened or happens; otherwise it is planned. A planned wave opens at the earliest then."""

    key = serializers.CharField()
    kind = serializers.ChoiceField(choices=KIND_CHOICES)
    number = serializers.CharField()
    title = serializers.CharField()
    state = serializers.CharField()
    state_label = serializers.CharField()
    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    is_actual = serializers.BooleanField()
    url = serializers.CharField()


class CalendarViewSet(ViewSet):
    """What is planned and what happened, of all processes."""

    @extend_schema(
        operation_id="calendar_list", parameters=[AskedCalendarSerializer], responses=CalendarEntrySerializer(many=True)
    )
    def list(self, request: Request) -> Response:
        """Changes, releases, rollouts, waves, freezes and maintenance windows of a period, by their start."""
        asked = AskedCalendarSerializer(data=request.query_params, context={"request": request})
        asked.is_valid(raise_exception=True)
        values, now = asked.validated_data, now_of(request)
        start = values.get("after", now)
        end = values.get("before", start + timedelta(days=28))
        if not timedelta(0) < end - start <= timedelta(days=MOST_DAYS):
            raise InvalidInput(_("Ask for a period of up to %(days)d days.") % {"days": MOST_DAYS}, field="before")
        ci = values.get("ci")
        wanted = Wanted(
            kinds=tuple(kind for kind in KINDS if kind in (values.get("kind") or KINDS)), only_mine=values["mine"],
            ci=ci.pk if ci is not None else None,
        )  # fmt: skip
        entries = entries_between(request.user, start, end, now=now, wanted=wanted)
        return Response(CalendarEntrySerializer(entries, many=True).data)


class CalendarFeedSerializer(serializers.ModelSerializer):
    kinds = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = CalendarFeed
        fields = ["id", "name", "kinds", "only_mine", "created_at", "revoked_at", "last_used_at"]


class MakeFeedSerializer(serializers.Serializer):
    name = serializers.CharField(max_length=100)
    kinds = serializers.MultipleChoiceField(choices=KIND_CHOICES, default={"freeze", "change"})
    only_mine = serializers.BooleanField(default=False)


class MadeFeedSerializer(CalendarFeedSerializer):
    """With the feed's address, shown this once."""

    address = serializers.CharField(read_only=True)

    class Meta(CalendarFeedSerializer.Meta):
        fields = [*CalendarFeedSerializer.Meta.fields, "address"]


class CalendarFeedViewSet(ObjectViewSet):
    """One's own calendar feeds."""

    model = CalendarFeed
    serializer_class = CalendarFeedSerializer
    filter_backends = []
    calls = {"revoke": Call(revoke_feed)}

    def visible(self) -> QuerySet[CalendarFeed]:
        rows = CalendarFeed.objects.order_by("-pk")
        if getattr(self, "swagger_fake_view", False) or self.request.user.is_anonymous:
            return rows.none()
        return rows.filter(user=self.request.user)

    @extend_schema(operation_id="calendarfeed_create", request=MakeFeedSerializer, responses={201: MadeFeedSerializer})
    def create(self, request: Request, **kwargs: Any) -> Response:
        """Makes a feed of one's own and shows its address this once."""
        values = self.read(MakeFeedSerializer)
        feed, secret = make_feed(actor=request.user, now=now_of(request), **values)
        feed.address = feed_address(secret)  # type: ignore[attr-defined]
        return Response(MadeFeedSerializer(feed).data, status=status.HTTP_201_CREATED)


CalendarFeedViewSet.secret_actions = frozenset({"create"})
