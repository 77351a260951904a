"""The media library as the API shows and takes it."""

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from software.models import Artifact, Format, Product, Version
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


class VersionSerializer(VersionListSerializer):
    """A version with its files as measured when they were stored."""

    created_by = PersonSerializer(read_only=True, allow_null=True)
    artifacts = serializers.SerializerMethodField()

    class Meta(VersionListSerializer.Meta):
        fields = [*VersionListSerializer.Meta.fields, "notes", "created_by", "artifacts"]

    @extend_schema_field(ArtifactSerializer(many=True))
    def get_artifacts(self, version: Version) -> list[dict[str, object]]:
        return list(ArtifactSerializer(version.artifacts.order_by("filename"), many=True).data)


class CreateVersionSerializer(serializers.Serializer):
    product = NameField(slug_field="slug", queryset=Product.objects.all())
    label = serializers.CharField(max_length=64)  # type: ignore[assignment]
    notes = serializers.CharField(max_length=50_000, allow_blank=True, default="")


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
