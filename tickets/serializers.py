"""Pieces that every serializer of a ticket is made of."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.models import Team
from tickets.lifecycle import available_verbs
from tickets.models import Level, Priority
from tickets.numbers import parse_number

MAX_KEY = 2**63 - 1


def key_of(model: type[models.Model], text: object) -> int | None:
    """The primary key that a number in any spelling (`INC-0000042`, `inc42`) or a bare key names; None: neither."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text if 0 < text <= MAX_KEY else None
    if not isinstance(text, str):
        return None
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    number = parse_number(text)
    return number[1] if number and number[0] == getattr(model, "PREFIX", "") else None


class _Visible:
    """Finds only what the person who asks may see."""

    model: type[models.Model]
    context: Any

    def visible(self) -> models.QuerySet[Any]:
        manager = self.model._default_manager
        if hasattr(manager, "visible_to"):
            found: models.QuerySet[Any] = manager.visible_to(self.context["request"].user)
            return found
        return manager.all()


@extend_schema_field({"type": "string", "example": "INC-0000042"})
class NumberField(_Visible, serializers.Field):
    """An object by its number in any spelling, or by its key."""

    default_error_messages = {"does_not_exist": _("There is no “{value}” that you may see.")}

    def __init__(self, model: type[models.Model], **kwargs: Any) -> None:
        self.model = model
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> models.Model:
        key = key_of(self.model, data)
        found = self.visible().filter(pk=key).first() if key is not None else None
        if found is None:
            self.fail("does_not_exist", value=str(data)[:64])
        return found  # type: ignore[return-value]

    def to_representation(self, value: Any) -> str:
        return str(value.number)


@extend_schema_field({"type": "array", "items": {"type": "string"}, "example": ["INC-0000042"]})
class NumbersField(_Visible, serializers.Field):
    """A list of objects by number or key, read with one query."""

    default_error_messages = {
        "not_a_list": _("Give a list of numbers."),
        "too_many": _("At most {limit} at once."),
        "does_not_exist": _("There is no “{value}” that you may see."),
    }
    limit = 1000

    def __init__(self, model: type[models.Model], **kwargs: Any) -> None:
        self.model = model
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> list[models.Model]:
        if not isinstance(data, list):
            self.fail("not_a_list")
        if len(data) > self.limit:
            self.fail("too_many", limit=self.limit)
        keys = {}
        for text in data:
            key = key_of(self.model, text)
            if key is None:
                self.fail("does_not_exist", value=str(text)[:64])
            keys[key] = text
        found = self.visible().in_bulk(list(keys))
        for key, text in keys.items():
            if key not in found:
                self.fail("does_not_exist", value=str(text)[:64])
        return [found[key] for key in keys]

    def to_representation(self, value: Any) -> list[str]:
        return [one.number for one in value.all()]


class NameField(serializers.SlugRelatedField):
    """Something by its unique name; text that the database cannot hold names nothing."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str) or not is_storable(data):
            self.fail("invalid")
        return super().to_internal_value(data)


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can hold the text: no NUL, no lone surrogates."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def user_field(**kwargs: Any) -> NameField:
    """An active person, named by user name."""
    people = get_user_model().objects.filter(is_active=True)
    return NameField(slug_field="username", queryset=people, **kwargs)


def team_field(**kwargs: Any) -> NameField:
    """A team, named by its name."""
    return NameField(slug_field="name", queryset=Team.objects.all(), **kwargs)


def level_field(**kwargs: Any) -> serializers.ChoiceField:
    """Impact or urgency."""
    return serializers.ChoiceField(choices=Level.choices, **kwargs)


class MomentField(serializers.DateTimeField):
    """A time that one can reckon with; see `tickets.api.MomentFilter`."""

    default_validators = [
        MinValueValidator(datetime(1900, 1, 1, tzinfo=UTC)), MaxValueValidator(datetime(2999, 1, 1, tzinfo=UTC)),
    ]  # fmt: skip


class PersonSerializer(serializers.Serializer):
    """A person, as others see him."""

    username = serializers.CharField(read_only=True)
    name = serializers.CharField(source="label", read_only=True)


class LinkSerializer(serializers.Serializer):
    """Another ticket, in short."""

    id = serializers.IntegerField(read_only=True)
    number = serializers.CharField(read_only=True)
    title = serializers.CharField(read_only=True)
    state = serializers.CharField(read_only=True)


class VerbSerializer(serializers.Serializer):
    """What the person who asks may do with the object now: POST to `<object>/<name>/`."""

    name = serializers.CharField(read_only=True)
    label = serializers.CharField(read_only=True)  # type: ignore[assignment]
    style = serializers.CharField(read_only=True)  # type: ignore[assignment]


class ChainLinkSerializer(serializers.Serializer):
    number = serializers.CharField()
    title = serializers.CharField()
    state = serializers.CharField()
    state_label = serializers.CharField()
    owner = serializers.CharField()
    url = serializers.CharField()


class ChainStepSerializer(serializers.Serializer):
    """A place in the chain: its newest members and how many there are, or why it is empty."""

    kind = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]
    links = ChainLinkSerializer(many=True)
    total = serializers.IntegerField()
    is_here = serializers.BooleanField()
    text = serializers.CharField()
    missing = serializers.CharField()
    since = serializers.DateTimeField(allow_null=True)


class ViewerMixin:
    """Serializers that show each person his own part."""

    context: Any

    @property
    def viewer(self) -> Any:
        return self.context["request"].user

    def visible_links(self, related: Any) -> list[dict[str, Any]]:
        """The linked tickets that the person may see."""
        rows = related.visible_to(self.viewer).order_by("pk").only("pk", "title", "state")
        return list(LinkSerializer(rows, many=True).data)

    @extend_schema_field(ChainStepSerializer(many=True))
    def get_chain(self, instance: Any) -> list[dict[str, Any]]:
        """From the incident to the version on the CI, as far as the person may see it."""
        chain_of = import_string(settings.CHAIN)
        return list(ChainStepSerializer(chain_of(instance, self.viewer).to_json(), many=True).data)

    @extend_schema_field(VerbSerializer(many=True))
    def get_verbs(self, instance: Any) -> list[dict[str, Any]]:
        calls = getattr(self.context.get("view"), "calls", {})
        names = [verb for verb in available_verbs(instance, self.viewer) if verb.name in calls]
        return list(VerbSerializer(names, many=True).data)


class TicketListSerializer(ViewerMixin, serializers.ModelSerializer):
    """A row of a list of tickets."""

    number = serializers.CharField(read_only=True)
    state_label = serializers.CharField(source="get_state_display", read_only=True)
    priority = serializers.ChoiceField(choices=Priority.choices, read_only=True)
    requester = PersonSerializer(read_only=True)
    assignee = PersonSerializer(read_only=True, allow_null=True)
    team = serializers.CharField(source="team.name", read_only=True, allow_null=True, default=None)

    class Meta:
        fields: Sequence[str] = [
            "id", "number", "title", "state", "state_label", "priority", "impact", "urgency", "activity",
            "requester", "assignee", "team", "created_at", "updated_at",
        ]  # fmt: skip


class TicketSerializer(TicketListSerializer):
    """A whole ticket; `version` goes back as `expected_version` with an edit, `verbs` are what is possible now."""

    created_by = PersonSerializer(read_only=True, allow_null=True)
    chain = serializers.SerializerMethodField()
    verbs = serializers.SerializerMethodField()

    class Meta:
        fields: Sequence[str] = [
            *TicketListSerializer.Meta.fields, "description", "created_by", "version", "chain", "verbs",
        ]  # fmt: skip


class AttachmentSerializer(serializers.Serializer):
    """A file on a ticket, fetched at `attachments/<id>/`; `content_type` is what its content shows."""

    id = serializers.IntegerField(read_only=True)
    name = serializers.CharField(read_only=True)
    size = serializers.IntegerField(read_only=True)
    sha256 = serializers.CharField(read_only=True)
    content_type = serializers.CharField(read_only=True)
    created_at = serializers.DateTimeField(read_only=True)


class EntrySerializer(serializers.Serializer):
    """One entry of a timeline; `author` is empty when the portal wrote it."""

    id = serializers.IntegerField(read_only=True)
    kind = serializers.CharField(read_only=True)
    is_public = serializers.BooleanField(read_only=True)
    text = serializers.CharField(read_only=True)
    from_state = serializers.CharField(read_only=True)
    to_state = serializers.CharField(read_only=True)
    author = PersonSerializer(read_only=True, allow_null=True)
    created_at = serializers.DateTimeField(read_only=True)
    attachments = AttachmentSerializer(many=True, read_only=True)


class ApprovalSerializer(serializers.Serializer):
    """A decision; `is_current` says whether it is about the content as it is now."""

    approver = PersonSerializer(read_only=True)
    decision = serializers.CharField(read_only=True)
    comment = serializers.CharField(read_only=True)
    created_at = serializers.DateTimeField(read_only=True)
    content_hash = serializers.CharField(read_only=True)
    is_current = serializers.SerializerMethodField()

    def get_is_current(self, approval: Any) -> bool:
        return bool(approval.content_hash == self.context.get("content_hash"))


# --- What verbs take ----------------------------------------------------------------------------------------------
class NothingSerializer(serializers.Serializer):
    """A verb that needs no more than its name."""


class AssignSerializer(serializers.Serializer):
    """A person, a team, or both."""

    assignee = user_field(required=False, allow_null=True)
    team = team_field(required=False, allow_null=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.get("assignee") and not attrs.get("team"):
            raise serializers.ValidationError({"assignee": "Name a person or a team."}, code="required")
        return attrs


class EditSerializer(serializers.Serializer):
    """What is left out stays. `expected_version` refuses the edit (409) when somebody else edited meanwhile."""

    title = serializers.CharField(min_length=3, max_length=200, required=False)
    description = serializers.CharField(max_length=50_000, allow_blank=True, required=False)
    impact = level_field(required=False)
    urgency = level_field(required=False)
    expected_version = serializers.IntegerField(required=False, min_value=1)


class ReasonSerializer(serializers.Serializer):
    reason = serializers.CharField(max_length=2000)


class OptionalReasonSerializer(serializers.Serializer):
    reason = serializers.CharField(max_length=2000, allow_blank=True, default="")


class CommentSerializer(serializers.Serializer):
    """What is said. `public=false` makes an internal note that the requester does not see."""

    text = serializers.CharField(max_length=20_000)
    public = serializers.BooleanField(default=True)


class SendFileSerializer(serializers.Serializer):
    """A file, and what is said with it."""

    file = serializers.FileField(allow_empty_file=True)
    text = serializers.CharField(max_length=20_000, allow_blank=True, default="")
    public = serializers.BooleanField(default=True)


class TextSerializer(serializers.Serializer):
    text = serializers.CharField(max_length=20_000)


class OpinionSerializer(serializers.Serializer):
    comment = serializers.CharField(max_length=20_000, allow_blank=True, default="")


class MandatoryOpinionSerializer(serializers.Serializer):
    comment = serializers.CharField(max_length=20_000)
