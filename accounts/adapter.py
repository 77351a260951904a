from allauth.account.adapter import DefaultAccountAdapter


class ClosedSignupAdapter(DefaultAccountAdapter):
    """Accounts are made by administrators; nobody signs up by himself."""

    def is_open_for_signup(self, request) -> bool:
        return False
