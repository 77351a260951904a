"""`/api/v1/connections/`: how hosts without an agent are reached; by the CI's number."""

from typing import Any

from cmdb.models import ConfigurationItem
from distribution.channels.ansible.connections import MANAGE, connect_ci, disconnect_ci
from distribution.channels.ansible.serializers import ConnectedCISerializer, ConnectSerializer
from tickets.api import Call, ObjectViewSet


class ConnectionViewSet(ObjectViewSet):
    """CIs with their channel and connection, for those who manage CIs."""

    model = ConfigurationItem
    serializer_class = ConnectedCISerializer
    list_related = ("connection__credential",)
    filter_backends = []
    calls = {
        "connect": Call(connect_ci, ConnectSerializer, MANAGE, summary="Puts the CI on the push channel."),
        "disconnect": Call(disconnect_ci, permission=MANAGE, summary="Leaves the CI to its agent again."),
    }

    def visible(self) -> Any:
        rows = super().visible()
        return rows if self.request.user.has_perm(MANAGE) else rows.none()
