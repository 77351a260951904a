"""Refusals as the API answers them: in the standard form, with the facts that a client needs to go on."""

from typing import Any

from drf_standardized_errors.formatter import ExceptionFormatter
from drf_standardized_errors.handler import ExceptionHandler
from drf_standardized_errors.types import ErrorResponse
from rest_framework.exceptions import APIException, ErrorDetail, ValidationError

from tickets.exceptions import DomainError, InvalidInput


class ErrorHandler(ExceptionHandler):
    """Turns a `DomainError` into an answer with its own status and code."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        if isinstance(exc, InvalidInput):
            return ValidationError({exc.field or "non_field_errors": [ErrorDetail(exc.message, code=exc.code)]})
        if isinstance(exc, DomainError):
            error = APIException(detail=exc.message, code=exc.code)
            error.status_code = exc.status
            error.facts = exc.detail  # type: ignore[attr-defined]
            return error
        return super().convert_known_exceptions(exc)


class ErrorFormatter(ExceptionFormatter):
    """The standard form of errors, and with it the `facts` of a refusal that has some: what changed, how far it is."""

    def format_error_response(self, error_response: ErrorResponse) -> Any:
        answer = super().format_error_response(error_response)
        facts = getattr(self.exc, "facts", None)
        return {**answer, "facts": facts} if facts else answer
