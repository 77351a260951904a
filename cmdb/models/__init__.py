from cmdb.models.admission import GatewayToken, Registration, TrustedAuthority
from cmdb.models.baseline import Baseline
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
from cmdb.models.reported import AttributeChange, Drift

__all__ = [
    "AgentProfile",
    "AgentToken",
    "AttributeChange",
    "Baseline",
    "CIClass",
    "CIGroup",
    "ConfigurationItem",
    "Connection",
    "Credential",
    "Drift",
    "GatewayToken",
    "InstalledVersion",
    "MaintenanceWindow",
    "Registration",
    "Relation",
    "TrustedAuthority",
]
