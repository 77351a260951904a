"""The invariants that plain queries decide: (invariant, text with the row's columns, SQL that finds violations)."""

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
        "I2",
        "CI {0} has {1} live deployments",
        """
        SELECT ci_id, count(*) FROM distribution_deployment WHERE state = ANY(%(live)s)
        GROUP BY ci_id HAVING count(*) > 1
        """,
    ),
    (
        "I2",
        "CI {0}: deployment {2} was offered before deployment {1} had ended",
        """
        SELECT ci_id, id, next_id FROM (
            SELECT d.ci_id, d.id, span.ended,
                lead(d.id) OVER seen AS next_id, lead(span.began) OVER seen AS next_began
            FROM distribution_deployment d
            CROSS JOIN LATERAL (
                SELECT min(e.id) FILTER (WHERE e.to_state = ANY(%(live)s)) AS began,
                    min(e.id) FILTER (WHERE e.to_state = ANY(%(terminal)s)) AS ended
                FROM distribution_deploymentevent e WHERE e.deployment_id = d.id
            ) span
            WHERE span.began IS NOT NULL
            WINDOW seen AS (PARTITION BY d.ci_id ORDER BY span.began)
        ) spans WHERE next_began IS NOT NULL AND (ended IS NULL OR next_began < ended)
        """,
    ),
    (
        "I4",
        "deployment {0}: event {1} goes from “{2}” to “{3}”, after “{4}”",
        """
        SELECT deployment_id, id, from_state, to_state, before FROM (
            SELECT e.*, lag(e.to_state, 1, '') OVER (PARTITION BY e.deployment_id ORDER BY e.id) AS before
            FROM distribution_deploymentevent e
        ) e
        WHERE e.from_state <> e.before OR e.before = ANY(%(terminal)s) OR (e.before = '') <> (e.kind = 'created')
            OR e.before <> '' AND e.from_state <> e.to_state AND NOT EXISTS (
                SELECT 1 FROM unnest(%(sources)s::text[], %(targets)s::text[]) AS legal(source, target)
                WHERE legal.source = e.from_state AND legal.target = e.to_state)
        """,
    ),
    (
        "I4",
        "deployment {0} is “{1}”, its last event says “{2}”",
        """
        SELECT d.id, d.state, newest.to_state FROM distribution_deployment d
        LEFT JOIN LATERAL (
            SELECT e.to_state FROM distribution_deploymentevent e WHERE e.deployment_id = d.id
            ORDER BY e.id DESC LIMIT 1
        ) newest ON true
        WHERE newest.to_state IS DISTINCT FROM d.state
        """,
    ),
    (
        "I5",
        "deployment {0} was offered {1} times",
        """
        SELECT deployment_id, count(*) FROM distribution_deploymentevent WHERE kind = 'offered'
        GROUP BY deployment_id HAVING count(*) > 1
        """,
    ),
    (
        "I5",
        "deployment {0} was offered after its device had closed it",
        """
        SELECT e.deployment_id FROM distribution_deploymentevent e
        WHERE e.kind = 'offered' AND EXISTS (
            SELECT 1 FROM distribution_deploymentevent closed WHERE closed.deployment_id = e.deployment_id
                AND closed.kind = 'report' AND closed.execution = 'closed' AND closed.id < e.id)
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
            OR NOT EXISTS (SELECT 1 FROM releases_rolloutevent e WHERE e.rollout_id = r.id AND e.kind = 'retry'))
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
                AND v.kind = 'pass' AND v.outcome = 'passed' AND v.at <= w.started_at)
            AND NOT EXISTS (SELECT 1 FROM releases_wave undo WHERE undo.undoes_id = before.id
                AND undo.started_at <= w.started_at)
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
        "I10",
        "{2} messages of event {0} to person {1} in one thread",
        """
        SELECT event, recipient_id, count(*) FROM notifications_outbox
        GROUP BY event, recipient_id, thread HAVING count(*) > 1
        """,
    ),
    (
        "I10",
        "message {0} is “{1}” without saying when or why",
        """
        SELECT id, state FROM notifications_outbox
        WHERE state = 'sent' AND sent_at IS NULL OR state = 'dead' AND last_error = ''
            OR state NOT IN ('pending', 'sent', 'dead', 'portal_only')
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
    (
        "I14",
        "deployment {0}: event {1} is of push {2}, which had not the deployment in hand then",
        """
        SELECT e.deployment_id, e.id, e.result FROM distribution_deploymentevent e
        WHERE e.kind = 'push' AND NOT EXISTS (
            SELECT 1 FROM distribution_pushtarget t JOIN distribution_pushrun r ON r.id = t.run_id
            WHERE t.deployment_id = e.deployment_id AND e.result = 'run ' || r.id
                AND e.at >= r.started_at AND (t.ended_at IS NULL OR e.at <= t.ended_at)
                AND (r.ended_at IS NULL OR e.at <= r.ended_at))
        """,
    ),
    (
        "I14",
        "deployment {0} was begun by push runs {1} and {2} at a time",
        """
        SELECT a.deployment_id, a.run_id, b.run_id FROM distribution_pushtarget a
        JOIN distribution_pushrun ra ON ra.id = a.run_id
        JOIN distribution_pushtarget b ON b.deployment_id = a.deployment_id AND b.run_id > a.run_id
        JOIN distribution_pushrun rb ON rb.id = b.run_id
        WHERE a.ended_at IS NULL OR rb.started_at < a.ended_at
        """,
    ),
    (
        "I15",
        "CI {0} reports {1} {2}; the configuration database says {3}",
        """
        SELECT ci.id, p.slug, ci.attributes ->> replace(key.template, '{product}', p.slug), iv.label
        FROM cmdb_installedversion iv
        JOIN cmdb_configurationitem ci ON ci.id = iv.ci_id
        JOIN software_product p ON p.id = iv.product_id
        LEFT JOIN cmdb_agentprofile profile ON profile.id = ci.agent_profile_id
        CROSS JOIN LATERAL (SELECT coalesce(profile.attribute_key, 'version.{product}') AS template) key
        WHERE iv.valid_to IS NULL AND key.template LIKE '%%{product}%%' AND ci.attributes_at >= iv.valid_from
            AND ci.attributes ->> replace(key.template, '{product}', p.slug) <> iv.label
        """,
    ),
    (
        "I15",
        "deployment {0} to CI {1} counts as success, but the CI never ran version {2}",
        """
        SELECT d.id, d.ci_id, i.to_version_id FROM distribution_deployment d
        JOIN distribution_deploymentitem i ON i.deployment_id = d.id
        JOIN distribution_batch b ON b.id = d.batch_id
        WHERE d.state = 'succeeded' AND i.to_version_id IS NOT NULL AND b.mode <> 'download_only'
            AND NOT EXISTS (SELECT 1 FROM cmdb_installedversion iv WHERE iv.ci_id = d.ci_id
                AND iv.version_id = i.to_version_id AND (iv.valid_to IS NULL OR iv.valid_to >= d.finished_at))
        """,
    ),
)
