"""What a play tells about its hosts → the steps of their deployments, each under the run's lease.

offered —leave to begin→ downloading —leave to switch→ installing —healthy→ confirming —read→ succeeded. The play asks
for each leave and waits: a deployment that was cancelled or excluded gets none, nor does a run that lost its lease.
Nothing counts as success but a version that was read from the host.
"""

import re
from datetime import datetime
from typing import Any

from cmdb.models import ConfigurationItem
from distribution.attributes import record_attributes
from distribution.channels.ansible.claims import held, let_go, runs_of, step
from distribution.channels.ansible.models import PushRun, PushTarget
from distribution.channels.ansible.run_folder import RunFolder
from distribution.health import finish
from distribution.models import TERMINAL, Deployment, DeploymentItem, DeploymentState, HealthCheck
from distribution.said import DEFAULT_KEY

State = DeploymentState
# A deployment whose runs were lost so often is given up.
MAX_RUNS = 3
MAX_LOG = 60_000
_AT_SWITCH = {"Switch", "Check health", "Go back"}
# Codes for failures that are Ansible's, not our module's, by what it says.
_CODES = (
    ("host_key_refused", re.compile(r"host key verification failed|remote host identification has changed", re.I)),
    ("login_refused", re.compile(r"permission denied|authentication fail|invalid/incorrect password", re.I)),
    ("no_python", re.compile(r"python.*(not found|no such file)", re.I | re.S)),
)


class Results:
    """Takes the events of one run and writes what they mean. Raises `LeaseLost` when they no longer count."""

    def __init__(self, run: PushRun, folder: RunFolder) -> None:
        self.run = run
        self.folder = folder
        self.note = ""
        self._failures: dict[str, tuple[str, str]] = {}
        self._lines: dict[str, list[str]] = {}

    def refuse(self) -> None:
        """Ends what cannot even be tried: no credential, no file."""
        for pk, (code, text) in self.folder.refused.items():
            with held(self.run) as now:
                deployment = _locked(pk)
                if self.run.kind == PushRun.Kind.INSTALL:
                    self._fail(deployment, code, text, now)
                self._say_health(deployment, HealthCheck.Outcome.INCONCLUSIVE, f"{code}: {text}", now)
                self._done(deployment, [f"{code}: {text}"], now)

    def take(self, line: dict[str, Any]) -> None:
        """One event of the play."""
        event, task, host = line["event"], str(line.get("task") or ""), str(line.get("host") or "")
        text = self._clean(str(line.get("text") or ""))
        if event == "output":
            self.note = self.note or text
        if host not in self.folder.hosts:
            return
        if event != "start":
            self._lines.setdefault(host, []).append(f"{task}: {event}{' – ' + text if text else ''}")
        if event == "start" and task == "Leave to begin":
            self._leave(host, State.OFFERED, State.DOWNLOADING, "begin")
        elif event == "start" and task == "Leave to switch":
            self._leave(host, State.DOWNLOADING, State.INSTALLING, "switch")
        elif event == "ok" and task == "Check health":
            self._confirm(host)
        elif event == "ok" and task == "Read":
            self._verdict(host, line.get("running") or {}, self._clean(str(line.get("health") or "")))
        elif event == "failed":
            self._failed(host, task, str(line.get("code") or "") or _code_of(text, "push_error"), text)
        elif event == "unreachable":
            self._failed(host, task, _code_of(text, "unreachable"), text)

    def _leave(self, host: str, source: str, target: str, what: str) -> None:
        with held(self.run) as now:
            deployment = _locked(self.folder.hosts[host].pk)
            is_given = deployment.state == source and step(self.run, deployment, to_state=target, now=now)
            if not is_given:
                # Cancelled or excluded meanwhile: nothing was switched, so it simply ends.
                let_go(self.run, self._target(deployment), now=now)
                self._keep(deployment, now)
        self.folder.leave(host, what if is_given else "stop")

    def _confirm(self, host: str) -> None:
        with held(self.run) as now:
            deployment = _locked(self.folder.hosts[host].pk)
            if deployment.state == State.INSTALLING:
                step(self.run, deployment, to_state=State.CONFIRMING, now=now, values={"closed_at": now})

    def _failed(self, host: str, task: str, code: str, text: str) -> None:
        """Before the switch a failure is final. From there on, only what is read from the host says how it ended."""
        if task in _AT_SWITCH and code != "unreachable":
            if task == "Go back":
                code, text = "revert_failed", f"{code}: {text}"
            elif host in self._failures:
                return
            self._failures[host] = (code, text)
            return
        with held(self.run) as now:
            deployment = _locked(self.folder.hosts[host].pk)
            if self.run.kind == PushRun.Kind.INSTALL and deployment.state in {State.OFFERED, State.DOWNLOADING}:
                self._fail(deployment, code, text, now)
            self._say_health(deployment, HealthCheck.Outcome.INCONCLUSIVE, f"{code}: {text}", now)
            self._done(deployment, [], now)

    def _verdict(self, host: str, running: dict[str, str | None], health: str) -> None:
        """Success, failure or another try, by what the host runs; the configuration database learns it in any case."""
        with held(self.run) as now:
            deployment = _locked(self.folder.hosts[host].pk)
            items = list(DeploymentItem.objects.filter(deployment=deployment).select_related("product", "to_version"))
            wanted = {i.product.slug: i.to_version.label if i.to_version is not None else None for i in items}
            code, text = self._failures.get(host, ("", ""))
            if health:
                code, _colon, text = health.partition(": ")
            different = [
                f"{p}: runs {running.get(p) or '–'}" for p, label in sorted(wanted.items()) if running.get(p) != label
            ]
            outcome = HealthCheck.Outcome.FAIL if health or different else HealthCheck.Outcome.PASS
            self._say_health(deployment, outcome, health or "; ".join(different), now)
            if code and deployment.state not in TERMINAL:
                self._fail(deployment, code, text, now)
            template = deployment.ci.agent_profile.attribute_key if deployment.ci.agent_profile else DEFAULT_KEY
            said = {template.replace("{product}", product): running.get(product) for product in wanted}
            record_attributes(deployment.ci, data=said, now=now)
            ConfigurationItem.objects.filter(pk=deployment.ci_id).update(last_seen_at=now)
            deployment.refresh_from_db()
            if deployment.state == State.UNKNOWN:
                self._try_again(deployment, running, now)
            self._done(deployment, [f"runs {p} {v or '–'}" for p, v in sorted(running.items())], now)

    def _say_health(self, deployment: Deployment, outcome: str, detail: str, now: datetime) -> None:
        """The answer of a run that was made to ask for it."""
        asked = HealthCheck.objects.filter(deployment=deployment, outcome="", due_at__gt=now).first()
        if self.run.kind == PushRun.Kind.CHECK and asked is not None:
            finish(asked, outcome, detail, now=now)

    def _try_again(self, deployment: Deployment, running: dict[str, str | None], now: datetime) -> None:
        """A lost run did not bring the version: the next run installs it, unless it was cancelled or lost too often."""
        found = ", ".join(f"{product} {label or '–'}" for product, label in sorted(running.items()))
        if deployment.reason:
            # It was cancelled while nobody knew: no run may begin anew.
            step(self.run, deployment, to_state=State.CANCELLED, now=now, details=(deployment.reason,))
        elif runs_of(deployment) >= MAX_RUNS:
            self._fail(deployment, "run_lost", f"{MAX_RUNS} runs were lost; it runs {found}", now)
        else:
            step(self.run, deployment, to_state=State.OFFERED, now=now, details=(f"still runs {found}",))

    def _fail(self, deployment: Deployment, code: str, text: str, now: datetime) -> None:
        values = {"error_code": code, "message": text[:512]}
        step(self.run, deployment, to_state=State.FAILED, now=now, details=(f"{code}: {text}"[:512],), values=values)

    def _done(self, deployment: Deployment, lines: list[str], now: datetime) -> None:
        self._lines.setdefault(f"h{deployment.pk}", []).extend(lines)
        let_go(self.run, self._target(deployment), now=now)
        self._keep(deployment, now)

    def _keep(self, deployment: Deployment, now: datetime) -> None:
        """Adds the host's new lines to its log, as far as there is room."""
        lines = self._lines.pop(f"h{deployment.pk}", [])
        if lines:
            target = self._target(deployment)
            stamp = now.strftime("%Y-%m-%d %H:%M:%SZ")
            log = target.log + "".join(f"{stamp} {line}\n" for line in lines).replace("\0", "")
            PushTarget.objects.filter(pk=target.pk).update(log=log[-MAX_LOG:])

    def _target(self, deployment: Deployment) -> PushTarget:
        return PushTarget.objects.get(run=self.run, deployment=deployment)

    def keep_logs(self) -> None:
        """Writes the lines that came since the last time. Inside `held` the caller need not be."""
        for host in list(self._lines):
            with held(self.run) as now:
                self._keep(self.folder.hosts[host], now)

    def _clean(self, text: str) -> str:
        for secret in self.folder.secrets:
            text = text.replace(secret, "•••")
        return text.replace("\0", "")


def _locked(pk: int) -> Deployment:
    rows = Deployment.objects.select_for_update(no_key=True, of=("self",)).select_related("ci__agent_profile")
    return rows.get(pk=pk)


def _code_of(text: str, otherwise: str) -> str:
    return next((code for code, pattern in _CODES if pattern.search(text)), otherwise)
