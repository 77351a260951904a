"""The agent's own version, reported as the attribute ``agent.version``."""

VERSION = "1.1.0"
