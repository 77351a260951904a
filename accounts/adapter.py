from typing import Any

from allauth.account.adapter import DefaultAccountAdapter


class ClosedSignupAdapter(DefaultAccountAdapter):
    """Accounts are made by administrators; nobody signs up by himself, and service accounts come by token only."""

    def is_open_for_signup(self, request) -> bool:
        return False

    def authenticate(self, request: Any, **credentials: Any) -> Any:
        user = super().authenticate(request, **credentials)
        return None if user is not None and user.is_service_account else user
