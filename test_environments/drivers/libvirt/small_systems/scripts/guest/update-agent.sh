#!/bin/sh
# Keeps the update agent running.
[ "$1" = start ] && [ -f /etc/update-agent/agent.json ] || exit 0
while :; do
    python3.11 /opt/update-agent/agent.pyz run --config /etc/update-agent/agent.json > /dev/console 2>&1
    sleep 2
done &
