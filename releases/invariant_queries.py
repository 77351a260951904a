"""The invariants of rollouts that plain queries decide, as (invariant, text with the row's columns, SQL that finds what
violates it).
"""

# ruff: noqa: S608 - put together from constants

_FORWARD = """
    releases_wave w
    JOIN releases_rollout r ON r.id = w.rollout_id
    JOIN distribution_deployment d ON d.batch_id = w.batch_id
"""
_ENDED = "('completed', 'rolled_back', 'rolled_back_with_exceptions', 'aborted')"

QUERIES: tuple[tuple[str, str, str], ...] = (
    (
        "I1",
        "rollout {0} froze {1} targets and has {2} first deployments",
        """
        SELECT r.id, r.target_count, count(d.id) FILTER (WHERE d.attempt = 1)
        FROM releases_rollout r
        LEFT JOIN releases_wave w ON w.rollout_id = r.id AND w.kind = 'forward'
        LEFT JOIN distribution_deployment d ON d.batch_id = w.batch_id
        WHERE r.frozen_at IS NOT NULL
        GROUP BY r.id HAVING count(d.id) FILTER (WHERE d.attempt = 1) IS DISTINCT FROM r.target_count
        """,
    ),
    (
        "I1",
        "rollout {0}: the frozen CIs are not those of its hash",
        """
        SELECT r.id FROM releases_rollout r
        WHERE r.frozen_at IS NOT NULL AND r.target_hash <> encode(sha256(convert_to('{"cis":[' || coalesce((
            SELECT string_agg(d.ci_id::text, ',' ORDER BY d.ci_id)
            FROM releases_wave w JOIN distribution_deployment d ON d.batch_id = w.batch_id
            WHERE w.rollout_id = r.id AND w.kind = 'forward' AND d.attempt = 1), '') || ']}', 'UTF8')), 'hex')
        """,
    ),
    (
        "I1",
        "rollout {0}: CI {1} is in {2} waves",
        f"""
        SELECT r.id, d.ci_id, count(*) FROM {_FORWARD}
        WHERE w.kind = 'forward' AND d.attempt = 1 GROUP BY r.id, d.ci_id HAVING count(*) > 1
        """,
    ),
    (
        "I1",
        "wave {0} of rollout {1} has size {2} and {3} CIs",
        """
        SELECT w.number, w.rollout_id, w.size, count(DISTINCT d.ci_id)
        FROM releases_wave w JOIN releases_rollout r ON r.id = w.rollout_id
        LEFT JOIN distribution_deployment d ON d.batch_id = w.batch_id
        WHERE w.kind = 'forward' AND r.frozen_at IS NOT NULL
        GROUP BY w.id HAVING count(DISTINCT d.ci_id) <> w.size
        """,
    ),
    (
        "I1",
        "CI {0} is a copy for tests and a target of rollout {1}",
        f"""
        SELECT ci.id, r.id FROM {_FORWARD} JOIN cmdb_configurationitem ci ON ci.id = d.ci_id
        WHERE ci.copy_of_id IS NOT NULL
        """,
    ),
    (
        "I5",
        "rollout {0}: attempt {2} to CI {1} is not a recorded retry of a failed one",
        f"""
        SELECT r.id, d.ci_id, d.attempt FROM {_FORWARD}
        WHERE d.attempt > 1 AND NOT (d.error_code = 'reverted' AND d.offered_at IS NULL) AND (
            NOT EXISTS (SELECT 1 FROM distribution_deployment p WHERE p.batch_id = d.batch_id AND p.ci_id = d.ci_id
                AND p.attempt = d.attempt - 1
                AND (p.state = 'failed' OR p.state = 'excluded' AND p.error_code = 'failed_before'))
            -- One that is taken out after its failure has a further attempt that ends at once and brings nothing.
            OR d.state <> 'excluded'
                AND NOT EXISTS (SELECT 1 FROM releases_rolloutevent e WHERE e.rollout_id = r.id AND e.kind = 'retry'))
        """,
    ),
    (
        "I6",
        "wave {0}: {3} verdicts of kind {1} in round {2}",
        """
        SELECT wave_id, kind, round, count(*) FROM releases_verdict GROUP BY wave_id, kind, round HAVING count(*) > 1
        """,
    ),
    (
        "I6",
        "deployment {0} was offered before wave {1} of rollout {2} began",
        f"""
        SELECT d.id, w.number, r.id FROM {_FORWARD}
        WHERE w.kind = 'forward' AND d.offered_at IS NOT NULL
            AND (w.started_at IS NULL OR d.offered_at < w.started_at - make_interval(secs => %(tolerance)s))
        """,
    ),
    (
        "I6",
        "wave {0} of rollout {1} began before wave {2} had passed",
        """
        SELECT w.number, w.rollout_id, before.number FROM releases_wave w
        JOIN releases_wave before ON before.rollout_id = w.rollout_id AND before.kind = 'forward'
            AND before.number < w.number
        WHERE w.kind = 'forward' AND w.started_at IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM releases_verdict v WHERE v.wave_id = before.id
                AND (v.kind, v.outcome) IN (('pass', 'passed'), ('override', 'overridden'))
                AND v.at <= w.started_at + make_interval(secs => %(tolerance)s))
            AND NOT EXISTS (SELECT 1 FROM releases_wave undo WHERE undo.undoes_id = before.id
                AND undo.started_at <= w.started_at)
        """,
    ),
    (
        "I6",
        "wave {0} of rollout {1} was overridden, and no second person said so",
        """
        SELECT w.number, w.rollout_id FROM releases_verdict v
        JOIN releases_wave w ON w.id = v.wave_id JOIN releases_rollout r ON r.id = w.rollout_id
        WHERE v.kind = 'override' AND NOT EXISTS (
            SELECT 1 FROM releases_rolloutevent e WHERE e.wave_id = w.id AND e.kind = 'overridden' AND e.text <> ''
                AND e.at = v.at AND e.actor_id IS NOT NULL AND e.actor_id <> r.started_by_id)
        """,
    ),
    (
        "I6",
        "a failure of wave {0} of rollout {1} is accepted by the one who started it",
        """
        SELECT w.number, w.rollout_id FROM releases_failuredecision x
        JOIN releases_wave w ON w.id = x.wave_id JOIN releases_rollout r ON r.id = w.rollout_id
        WHERE w.kind = 'forward' AND x.kind IN ('ignored', 'excluded')
            AND (x.decided_by_id = r.started_by_id OR x.reason = '')
        """,
    ),
    (
        "I7",
        "deployment {0} was offered at {1}, while rollout {2} was stopped since {3}",
        f"""
        SELECT d.id, d.offered_at, r.id, stop.at FROM {_FORWARD}
        JOIN LATERAL (
            SELECT e.at, e.kind,
                (SELECT min(go.at) FROM releases_rolloutevent go
                 WHERE go.rollout_id = r.id AND go.kind = 'resumed' AND go.id > e.id) AS ended_at
            FROM releases_rolloutevent e
            WHERE e.rollout_id = r.id AND e.kind IN ('paused', 'aborting')
        ) stop ON d.offered_at > stop.at + make_interval(secs => %(tolerance)s)
            AND (stop.ended_at IS NULL AND r.state <> 'completed' OR d.offered_at < stop.ended_at)
        WHERE w.kind = 'forward'
        """,
    ),
    (
        "I8",
        "rollout {0} is rolled back, but CI {1} got the version and is neither back nor listed",
        f"""
        SELECT DISTINCT r.id, d.ci_id FROM {_FORWARD}
        WHERE w.kind = 'forward' AND d.state = 'succeeded' AND d.finished_at <= r.finished_at
            AND r.state IN ('rolled_back', 'rolled_back_with_exceptions')
            AND NOT EXISTS (SELECT 1 FROM releases_wave u JOIN distribution_deployment b ON b.batch_id = u.batch_id
                WHERE u.rollout_id = r.id AND u.kind = 'rollback' AND b.ci_id = d.ci_id
                    AND b.state IN ('succeeded', 'skipped'))
            AND NOT EXISTS (SELECT 1 FROM distribution_deployment fell WHERE fell.batch_id = d.batch_id
                AND fell.ci_id = d.ci_id AND fell.attempt > d.attempt AND fell.error_code = 'reverted')
            AND NOT EXISTS (SELECT 1 FROM releases_rolloutexception x WHERE x.rollout_id = r.id AND x.ci_id = d.ci_id)
        """,
    ),
    (
        "I8",
        "rollout {0}: CI {1} was sent back {2} times",
        f"""
        SELECT r.id, d.ci_id, count(*) FROM {_FORWARD}
        WHERE w.kind = 'rollback' AND d.state NOT IN ('skipped', 'failed', 'cancelled', 'excluded')
        GROUP BY r.id, d.ci_id HAVING count(*) > 1
        """,
    ),
    (
        "I8",
        "rollout {0} is “rolled back” and lists CI {1} as not back",
        """
        SELECT r.id, x.ci_id FROM releases_rollout r JOIN releases_rolloutexception x ON x.rollout_id = r.id
        WHERE r.state = 'rolled_back' AND x.kind IN ('no_way_back', 'rollback_failed')
        """,
    ),
    (
        "I9",
        "rollout {0} is “{1}”, but deployment {2} is “{3}” and not overdue",
        f"""
        SELECT r.id, r.state, d.id, d.state FROM {_FORWARD}
        WHERE r.state IN {_ENDED} AND d.state = ANY(%(open)s) AND d.overdue_at IS NULL
            -- A part of it is being taken back, or was and waits for its turn.
            AND NOT EXISTS (SELECT 1 FROM releases_wave u WHERE u.rollout_id = r.id AND u.kind = 'rollback'
                AND u.state IN ('deploying', 'soaking', 'failed') AND (u.id = w.id OR u.undoes_id = w.id))
        """,
    ),
    (
        "I9",
        "rollout {0} is settled, but something of it is still to be done",
        f"""
        SELECT r.id FROM releases_rollout r WHERE r.settled_at IS NOT NULL AND (
            r.cascade <> '' OR r.state NOT IN {_ENDED} OR EXISTS (
                SELECT 1 FROM releases_wave w JOIN distribution_deployment d ON d.batch_id = w.batch_id
                WHERE w.rollout_id = r.id AND d.state = ANY(%(open)s)))
        """,
    ),
    (
        "I9",
        "rollout {0} is “{1}” and nobody knows what it waits for",
        """
        SELECT r.id, r.state FROM releases_rollout r
        WHERE r.state = 'paused' AND (r.pause_kind = '' OR r.pause_reason = '')
            OR r.state = 'running' AND r.frozen_at IS NOT NULL AND r.waits_for = ''
                AND NOT EXISTS (SELECT 1 FROM releases_wave w WHERE w.rollout_id = r.id
                    AND w.state IN ('waiting', 'deploying', 'soaking', 'passed'))
        """,
    ),
    (
        "I11",
        "rollout {0} was started without a valid approval by somebody else",
        """
        SELECT r.id FROM releases_rollout r JOIN releases_release rel ON rel.id = r.release_id
        WHERE NOT EXISTS (
            SELECT 1 FROM releases_releaseapproval a JOIN accounts_user u ON u.id = a.approver_id
            WHERE a.release_id = rel.id AND a.decision = 'approved' AND a.content_hash = r.approved_hash
                AND a.created_at <= r.started_at AND NOT u.is_service_account
                AND a.approver_id IS DISTINCT FROM rel.created_by_id AND a.approver_id IS DISTINCT FROM rel.requester_id
                AND a.approver_id <> r.started_by_id
                AND (a.approver_id IS DISTINCT FROM rel.last_editor_id
                    OR rel.state NOT IN ('deploying', 'completed', 'rolled_back', 'partially_rolled_back'))
                AND NOT EXISTS (
                    SELECT 1 FROM releases_releaseapproval later WHERE later.release_id = rel.id
                        AND later.decision = 'rejected' AND later.content_hash = a.content_hash AND later.id > a.id
                        AND later.created_at <= r.started_at))
        """,
    ),
    (
        "I11",
        "rollout {0} was started without a passed test or a recorded exception",
        """
        SELECT r.id FROM releases_rollout r
        WHERE NOT EXISTS (SELECT 1 FROM releases_testrun t WHERE t.release_id = r.release_id
                AND (t.state = 'passed' OR t.state = 'voided') AND t.finished_at <= r.started_at)
            AND NOT EXISTS (SELECT 1 FROM releases_rolloutexception x WHERE x.release_id = r.release_id
                AND x.kind = 'test_skipped' AND x.recorded_by_id IS NOT NULL AND x.created_at <= r.started_at)
        """,
    ),
    (
        "I12",
        "deployment {0} installs version {1}, which has no stored file",
        """
        SELECT d.id, i.to_version_id FROM distribution_deployment d
        JOIN distribution_deploymentitem i ON i.deployment_id = d.id
        WHERE d.offered_at IS NOT NULL AND i.to_version_id IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM software_artifact a WHERE a.version_id = i.to_version_id)
        """,
    ),
    (
        "I12",
        "rollout {0}: deployment {1} installs version {2}, which is not in the approved package",
        f"""
        SELECT r.id, d.id, i.to_version_id FROM {_FORWARD}
        JOIN distribution_deploymentitem i ON i.deployment_id = d.id
        JOIN releases_release rel ON rel.id = r.release_id
        WHERE w.kind = 'forward' AND rel.state IN ('deploying', 'completed', 'rolled_back', 'partially_rolled_back')
            AND NOT EXISTS (SELECT 1 FROM releases_packageitem p WHERE p.release_id = rel.id
                AND p.version_id = i.to_version_id)
        """,
    ),
)
