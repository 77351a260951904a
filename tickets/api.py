"""What the API shares: refusals of the domain as standardised errors."""

from drf_standardized_errors.handler import ExceptionHandler
from rest_framework.exceptions import APIException

from tickets.exceptions import DomainError


class ErrorHandler(ExceptionHandler):
    """Turns a `DomainError` into an answer with its own status and code."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        if isinstance(exc, DomainError):
            error = APIException(detail=exc.message, code=exc.code)
            error.status_code = exc.status
            return error
        return super().convert_known_exceptions(exc)
