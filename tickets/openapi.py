"""The API's description: every operation names the refusals that it can answer with, all in one form."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter
from drf_standardized_errors.openapi import AutoSchema
from rest_framework import serializers


class ErrorSerializer(serializers.Serializer):
    """One thing that is wrong. `code` is stable, `detail` is for people, `attr` names the field if there is one."""

    code = serializers.CharField()
    detail = serializers.CharField()
    attr = serializers.CharField(allow_null=True)


class ErrorResponseSerializer(serializers.Serializer):
    """The body of every refusal."""

    type = serializers.CharField(help_text="validation_error, client_error or server_error")
    errors = ErrorSerializer(many=True)  # type: ignore[assignment]


_REPEATABLE = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="A request that is sent again with its key gets the first answer, and nothing is done twice.",
)


class Schema(AutoSchema):
    """Adds 403 and 409 where the domain may refuse, and the header of repeatable POSTs; one error component for all."""

    def get_override_parameters(self) -> list[Any]:
        found = list(super().get_override_parameters())
        return [*found, _REPEATABLE] if self._is_repeatable() else found

    def _is_repeatable(self) -> bool:
        return self.method == "POST" and getattr(self.view, "keeps_answers", False)

    def _should_add_error_response(self, responses: dict, status_code: str) -> bool:
        if status_code in responses:
            return False
        changes_something = self.method in {"POST", "PATCH", "PUT", "DELETE"}
        if status_code == "422":
            return self._is_repeatable()
        if status_code in {"403", "409"}:
            return changes_something and bool(self.get_auth())
        return super()._should_add_error_response(responses, status_code)
