"""What the frame of every page needs."""

from typing import Any

from django.http import HttpRequest


def frame(request: HttpRequest) -> dict[str, Any]:
    """Nothing that costs a query: the frame's live parts are fragments of their own."""
    return {"portal_theme": getattr(request.user, "theme", "auto") if hasattr(request, "user") else "auto"}
