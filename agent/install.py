"""Carrying out one action, step by step, each step durable before the next begins.

Up to ``unpacked`` nothing that the CI runs is touched, and the action can be cancelled. From ``switching``
on it is finished or taken back without asking the server, also after a restart.
"""

import time
from collections.abc import Callable
from typing import Any

from agent.command import HEALTH, POST, PRE, ROLLBACK
from agent.config import Config
from agent.ddi import Client, Unreachable
from agent.errors import Abandoned, Cancelled, InstallError
from agent.failpoint import reach
from agent.hooks import CHECK, CODES, INSTALL, REMOVE, REVERT, Hooks, Move
from agent.log import log
from agent.offer import Item, Offer
from agent.package import Limits
from agent.reports import Reports, feedback
from agent.state import (
    DOWNLOADED,
    DOWNLOADING,
    HEALTHY,
    LEAVING,
    PREPARING,
    REVERTED,
    REVERTING,
    SWITCHED,
    SWITCHING,
    UNPACKED,
    Action,
    State,
)
from agent.store import Store
from agent.trust import Release, Trust
from agent.way_back import WayBack

# A hook during which the agent died this often is taken as the cause.
_MAX_RUNS = 3


class Installer:
    """Runs actions against ``store``. ``watch(seconds)`` waits and raises Stopped or Cancelled.

    ``is_cancelled(action)`` asks the server; it raises Unreachable.
    """

    def __init__(
        self,
        config: Config,
        client: Client,
        state: State,
        store: Store,
        reports: Reports,
        trust: Trust,
        *,
        watch: Callable[[float], None],
        is_cancelled: Callable[[str], bool],
        announce: Callable[[], None],
    ) -> None:
        self._config = config
        self._client = client
        self._state = state
        self._store = store
        self._reports = reports
        self._trust = trust
        self._hooks = Hooks(config.root, config.hooks)
        self._way_back = WayBack(config, store, self._hooks)
        self._watch = watch
        self._is_cancelled = is_cancelled
        self._announce = announce

    def run(self, offer: Offer) -> None:
        """Takes ``offer`` as far as it may go now. Raises Stopped, Cancelled, Abandoned, OSError."""
        action = self._state.action
        if action is None or action.id != offer.action or action.content != offer.content():
            if action is not None:
                log(f"action {action.id}: replaced by action {offer.action}")
                self.discard()
            self._reports.gone.discard(offer.action)
            action = self._state.begin(offer)
            log(f"action {action.id}: offered: {action.content}")
        # The addresses may have changed since the last look.
        action.items = offer.items
        self._announce()
        try:
            if offer.error is not None:
                raise offer.error
            if not self._prepare(action, offer):
                return
        except InstallError as error:
            action.failure = error.details()
            self._close(action)
            return
        reach("before_switch")
        action.previous = {item.product: self._store.current(item.product) for item in action.items}
        has_pre = any(self._hooks.has(PRE, move) for move in self._moves(action))
        self._enter(action, PREPARING if has_pre else self._after_pre(action))
        self.finish()

    def finish(self) -> None:
        """Takes an action that began to switch to its end, without the network; others stay as they are."""
        self._hooks.end_leftovers()
        action = self._state.action
        if action is None or action.is_before_switch:
            return
        if action.phase == PREPARING:
            self._run_pre(action)
        if action.phase == LEAVING:
            self._leave(action)
        if action.phase == SWITCHING:
            self._switch(action)
        if action.phase == SWITCHED:
            self._check(action)
        if action.phase == REVERTING:
            self._revert(action)
        self._close(action)

    def discard(self) -> None:
        """Forgets an action that has not begun to switch, with everything it left on disk."""
        self._state.drop_action()
        self.sweep()
        self._announce()

    def sweep(self) -> None:
        """Deletes what is left of actions that are over. Only while none is in hand."""
        self._store.sweep()
        self._way_back.sweep()

    def check_health(self) -> dict[str, str]:
        """Runs the health checks of everything that runs, and what each said: pass, none (there is none), fail."""
        said = {}
        for product, version in self._store.running().items():
            move = Move(CHECK, product, version, version, self._store.folder(product, version))
            try:
                said[product] = "pass" if self._hooks.has(HEALTH, move) else "none"
                self._hooks.run(HEALTH, move)
            except InstallError as error:
                said[product] = f"fail: {error.details()[0]}"
        return said

    def _prepare(self, action: Action, offer: Offer) -> bool:
        """Downloads and unpacks; False when the server does not want more yet. Raises InstallError."""
        for item in action.items:
            self._store.check_place(item)
        if self._trust.is_required:
            self._approve(action, offer)
        if action.phase != UNPACKED:
            if not offer.may_download:
                return False
            self._fetch_and_unpack(action)
        for item in action.items:
            self._way_back.check(item)
        if not offer.may_install:
            return False
        self._report(action, "proceeding", "installing")
        # The last moment at which a cancellation costs nothing.
        try:
            if self._is_cancelled(action.id):
                raise Cancelled
        except Unreachable:
            pass
        self._watch(0.0)
        return True

    def _approve(self, action: Action, offer: Offer) -> None:
        """Verifies every signature, at each look at the offer: a key may have been revoked since the last."""
        from agent.disk import disk_error
        from agent.verify import Approval

        try:
            approval = Approval(self._trust, self._store.current, self._store.is_in_place, time.time())
            releases = {item.product: approval.approve(item, offer.signed[item.product]) for item in action.items}
            for item in action.items:
                self._way_back.check_signed(item)
        except OSError as error:
            raise disk_error(error, "verifying") from None
        action.approved = {product: (r.version, r.counter) for product, r in releases.items() if r is not None}

    def _fetch_and_unpack(self, action: Action) -> None:
        from agent.disk import check_space, disk_error
        from agent.download import Downloader

        self._report(action, "download", "download begins")
        self._enter(action, DOWNLOADING)
        reach("before_download")
        missing = [i for i in action.items if not (self._way_back.is_restore(i) or self._store.is_prepared(i))]
        downloader = Downloader(self._client, self._store.downloads, self._config, self._watch)
        try:
            needed = sum(downloader.missing(item) for item in missing)
            check_space(self._store.downloads, needed, self._config.disk_reserve_bytes, "the download")
            archives = {item: self._fetch(action, downloader, item) for item in missing}
        except OSError as error:
            raise disk_error(error, "downloading") from None
        reach("after_download")
        self._report(action, "downloaded", f"artifacts downloaded: {len(missing)} of {len(action.items)}")
        self._enter(action, DOWNLOADED)
        limits = Limits.of(self._config)
        for item, archive in archives.items():
            self._watch(0.0)
            try:
                self._store.prepare(item, archive, limits)
            except OSError as error:
                raise disk_error(error, f"unpacking {item.product}") from None
        reach("after_unpack")
        self._enter(action, UNPACKED)

    def _fetch(self, action: Action, downloader: Any, item: Item) -> Any:
        try:
            return downloader.fetch(item)
        except InstallError as error:
            # A server also refuses the artifact while it cancels the action.
            if error.code == "artifact_withdrawn" and self._was_cancelled(action):
                raise Cancelled from None
            raise

    def _was_cancelled(self, action: Action) -> bool:
        try:
            return self._is_cancelled(action.id)
        except Unreachable:
            return False

    def _moves(self, action: Action) -> list[Move]:
        """What the action does to the links; a product that is not there is not removed."""
        moves = []
        for item in action.items:
            previous = action.previous[item.product]
            if not item.remove:
                folder = self._store.folder(item.product, item.version, item.sha256)
                moves.append(Move(INSTALL, item.product, item.version, previous, folder))
            elif previous is not None:
                moves.append(Move(REMOVE, item.product, None, previous, self._store.folder(item.product, previous)))
        return moves

    def _run_pre(self, action: Action) -> None:
        action.pre_runs += 1
        self._state.save()
        try:
            _check_runs(PRE, action.pre_runs)
            for move in self._moves(action):
                self._hooks.run(PRE, move)
        except InstallError as error:
            self._fail(action, error)
        else:
            reach("after_pre")
            self._enter(action, self._after_pre(action))

    def _after_pre(self, action: Action) -> str:
        return LEAVING if any(item.way_back for item in action.items) else SWITCHING

    def _leave(self, action: Action) -> None:
        """Keeps what leads back later, or undoes what the version that runs had done."""
        action.leave_runs += 1
        self._state.save()
        try:
            _check_runs(ROLLBACK, action.leave_runs)
            for item in action.items:
                self._way_back.leave(item, action.previous[item.product])
        except InstallError as error:
            self._fail(action, error)
        except OSError as error:
            from agent.disk import disk_error

            self._fail(action, disk_error(error, "keeping what leads back"))
        else:
            reach("after_leave")
            action.left = True
            self._enter(action, SWITCHING)

    def _switch(self, action: Action) -> None:
        try:
            for item in action.items:
                self._store.switch(item)
                reach("mid_switch")
                self._way_back.put_back(item, action.previous[item.product])
                reach("mid_put_back")
        except InstallError as error:
            self._fail(action, error)
        except OSError as error:
            from agent.disk import disk_error

            self._fail(action, disk_error(error, "switching"))
        else:
            self._enter(action, SWITCHED)
            reach("after_switch")

    def _check(self, action: Action) -> None:
        action.health_runs += 1
        self._state.save()
        try:
            _check_runs(HEALTH, action.health_runs)
            for hook in (POST, HEALTH):
                for move in self._moves(action):
                    self._hooks.run(hook, move)
                reach(f"after_{hook}")
        except InstallError as error:
            self._fail(action, error)
        else:
            self._enter(action, HEALTHY)

    def _fail(self, action: Action, error: InstallError) -> None:
        action.failure = error.details()
        self._enter(action, REVERTING)

    def _revert(self, action: Action) -> None:
        said = self._run_revert_hooks(action, PRE)
        problems = []
        for item in action.items:
            try:
                if action.left:
                    said += self._way_back.revert(item, action.previous[item.product], had_run=action.health_runs > 0)
                self._store.revert(item, action.previous[item.product])
            except (InstallError, OSError) as error:
                problems.append(f"revert_failed: {item.product}: {error}")
            reach("mid_revert")
        said += self._run_revert_hooks(action, POST)
        back = ", ".join(f"{p} {v or 'not installed'}" for p, v in sorted(action.previous.items()))
        action.failure.extend([*said, *(problems or [f"went back to: {back}"])])
        reach("after_revert")
        self._enter(action, REVERTED)

    def _run_revert_hooks(self, action: Action, name: str) -> list[str]:
        """Runs a hook of what the CI goes back to; what it says against that is only told."""
        moves = [move for move in self._moves_back(action) if self._hooks.has(name, move)]
        if not moves:
            return []
        action.revert_runs += 1
        self._state.save()
        if action.revert_runs > 2 * _MAX_RUNS:
            return [f"the agent died {_MAX_RUNS} times while it went back: no {name} hook was run"]
        problems = []
        for move in moves:
            try:
                self._hooks.run(name, move)
            except InstallError as error:
                problems += error.details()
        return problems

    def _moves_back(self, action: Action) -> list[Move]:
        moves = []
        for item in action.items:
            label = action.previous[item.product]
            gone = None if item.remove else item.version
            folder = self._store.folder(item.product, label or item.version, "" if label else item.sha256)
            if label is not None or gone is not None:
                moves.append(Move(REVERT, item.product, label, gone, folder))
        return moves

    def _close(self, action: Action) -> None:
        reach("before_close")
        if action.failure:
            log(f"action {action.id}: failed: {action.failure[0]}")
            body = feedback(action.id, "closed", "failure", action.failure)
        else:
            log(f"action {action.id}: done")
            self._trust.record({product: Release(*release) for product, release in action.approved.items()})
            for item in action.items:
                self._way_back.done(item, action.previous[item.product])
            body = feedback(action.id, "closed", "success", [f"installed: {action.content}"])
        self._state.close(action.id, action.content, body)
        reach("after_close")
        self.sweep()
        self._announce()

    def _enter(self, action: Action, phase: str) -> None:
        log(f"action {action.id}: {phase}")
        self._state.enter(action, phase)
        self._announce()

    def _report(self, action: Action, execution: str, detail: str) -> None:
        """Queues a progress report once, and tries to deliver it; an unreachable server stops nothing."""
        if execution not in action.reported:
            action.reported.append(execution)
            body = feedback(action.id, execution, "none", [detail])
            self._state.queue("feedback", action.id, body, terminal=False)
            self._state.save()
        try:
            self._reports.flush()
        except Unreachable as error:
            log(f"action {action.id}: {execution} not delivered yet: {error}")
        if action.id in self._reports.gone:
            self._reports.gone.discard(action.id)
            raise Abandoned


def _check_runs(name: str, runs: int) -> None:
    if runs > _MAX_RUNS:
        raise InstallError(CODES[name], f"the agent died {_MAX_RUNS} times during it")
