from cmdb.models.admission import GatewayToken, Registration, TrustedAuthority
from cmdb.models.connections import Connection, Credential
from cmdb.models.groups import CIGroup
from cmdb.models.items import (
    AgentProfile,
    AgentToken,
    CIClass,
    ConfigurationItem,
    InstalledVersion,
    MaintenanceWindow,
    Relation,
)

__all__ = [
    "AgentProfile",
    "AgentToken",
    "CIClass",
    "CIGroup",
    "ConfigurationItem",
    "Connection",
    "Credential",
    "GatewayToken",
    "InstalledVersion",
    "MaintenanceWindow",
    "Registration",
    "Relation",
    "TrustedAuthority",
]
