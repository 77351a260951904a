"""The media library as the API shows and takes it."""

import json
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from software.models import Artifact, Component, Format, Product, Sbom, Upload, Version
from tickets.serializers import NameField, PersonSerializer


class ProductSerializer(serializers.ModelSerializer):
    owner = PersonSerializer(read_only=True, allow_null=True)

    class Meta:
        model = Product
        fields = ["id", "name", "slug", "description", "owner"]


class CreateProductSerializer(serializers.Serializer):
    """Devices know the product by `slug`; it never changes."""

    name = serializers.CharField(max_length=100)
    slug = serializers.SlugField(max_length=64)
    description = serializers.CharField(max_length=20_000, allow_blank=True, default="")


class ArtifactSerializer(serializers.ModelSerializer):
    class Meta:
        model = Artifact
        fields = ["id", "filename", "format", "size", "sha1", "md5", "sha256", "uploaded_at"]


class VersionListSerializer(serializers.ModelSerializer):
    product = serializers.CharField(source="product.slug", read_only=True)

    class Meta:
        model = Version
        fields = ["id", "product", "label", "state", "created_at"]


class EnvelopeSerializer(serializers.Serializer):
    """One signed document: its envelope, and until when it counts (empty: not trusted any more)."""

    envelope = serializers.JSONField()
    issued_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()
    good_until = serializers.DateTimeField(allow_null=True)

    def to_representation(self, row: Any) -> dict[str, Any]:
        return {**super().to_representation(row), "envelope": json.loads(row.envelope)}


class UploadEnvelopesSerializer(serializers.Serializer):
    """DSSE envelopes as the key holder's tool writes them."""

    envelopes = serializers.ListField(child=serializers.DictField(), min_length=1, max_length=1000)


class SignaturesSerializer(serializers.Serializer):
    """Whom the portal believes. `accepted` says what an upload brought that was new."""

    required = serializers.BooleanField()  # type: ignore[assignment]
    root_keys = serializers.ListField(child=serializers.CharField())
    key_set = serializers.JSONField(allow_null=True)
    accepted = serializers.ListField(child=serializers.CharField(), required=False)


class RequestSerializer(serializers.Serializer):
    """The request file for the key holder's tool."""

    schema = serializers.IntegerField()
    kind = serializers.CharField()
    made = serializers.CharField()
    documents = serializers.ListField(child=serializers.DictField())

    def get_fields(self) -> dict[str, Any]:
        # `for` is no name that Python takes.
        return {**super().get_fields(), "for": serializers.CharField()}


class VersionSerializer(VersionListSerializer):
    """A version with its files as measured when they were stored, and its signed manifests, the newest first."""

    created_by = PersonSerializer(read_only=True, allow_null=True)
    artifacts = serializers.SerializerMethodField()
    manifests = serializers.SerializerMethodField()

    class Meta(VersionListSerializer.Meta):
        fields = [
            *VersionListSerializer.Meta.fields,
            "state_reason",
            "notes",
            "must_not_skip",
            "created_by",
            "counter",
            "artifacts",
            "manifests",
        ]

    @extend_schema_field(ArtifactSerializer(many=True))
    def get_artifacts(self, version: Version) -> list[dict[str, object]]:
        return list(ArtifactSerializer(version.artifacts.order_by("filename"), many=True).data)

    @extend_schema_field(EnvelopeSerializer(many=True))
    def get_manifests(self, version: Version) -> list[dict[str, object]]:
        return list(EnvelopeSerializer(version.manifests.all()[:10], many=True).data)


class CreateVersionSerializer(serializers.Serializer):
    product = NameField(slug_field="slug", queryset=Product.objects.all())
    label = serializers.CharField(max_length=64)  # type: ignore[assignment]
    notes = serializers.CharField(max_length=50_000, allow_blank=True, default="")
    must_not_skip = serializers.BooleanField(default=False)


class FileSerializer(serializers.Serializer):
    """What is said about a file beside its name: `sha256` (hex), if given, must be the one of the content; `format` is
    told by the name's ending unless given; with `more` the version waits for further files before it is ready.
    """

    sha256 = serializers.RegexField(r"^[0-9a-fA-F]{64}$", required=False)
    format = serializers.ChoiceField(choices=Format.choices, required=False)
    more = serializers.BooleanField(default=False)


class UploadSerializer(FileSerializer):
    """A multipart upload. The name comes from the file."""

    file = serializers.FileField(allow_empty_file=False)


class RawUploadSerializer(FileSerializer):
    """What a raw upload says in its query string."""

    filename = serializers.CharField(max_length=128)


class BeginUploadSerializer(serializers.Serializer):
    """What is announced of a file that will arrive in pieces."""

    version = serializers.PrimaryKeyRelatedField(queryset=Version.objects.select_related("product"))
    filename = serializers.CharField(max_length=128)
    size = serializers.IntegerField(min_value=1, max_value=2**62)
    sha256 = serializers.RegexField(r"^[0-9a-fA-F]{64}$", required=False)
    format = serializers.ChoiceField(choices=Format.choices, required=False)
    more = serializers.BooleanField(default=False)


class PieceSerializer(serializers.Serializer):
    """Where a piece begins."""

    offset = serializers.IntegerField(min_value=0, max_value=2**62)


class FinishUploadSerializer(serializers.Serializer):
    """The SHA-256 (hex) that the whole file must have; needed unless it was announced."""

    sha256 = serializers.RegexField(r"^[0-9a-fA-F]{64}$", required=False)


class UploadStateSerializer(serializers.ModelSerializer):
    """How far an upload is: the next piece begins at `offset`."""

    offset = serializers.IntegerField(source="received", read_only=True)

    class Meta:
        model = Upload
        fields = ["id", "version", "filename", "size", "offset", "sha256", "artifact", "created_at", "updated_at"]


class SbomSerializer(serializers.ModelSerializer):
    """What is known of a bill of materials beside its components."""

    components = serializers.IntegerField(source="components.count", read_only=True)

    class Meta:
        model = Sbom
        fields = ["version", "spec_version", "sha256", "components", "uploaded_at"]


class ComponentSerializer(serializers.ModelSerializer):
    """A part, and the version of a product that has it."""

    product = serializers.CharField(source="sbom.version.product.slug", read_only=True)
    version_label = serializers.CharField(source="sbom.version.label", read_only=True)

    class Meta:
        model = Component
        fields = ["id", "name", "version", "kind", "purl", "licences", "product", "version_label"]
