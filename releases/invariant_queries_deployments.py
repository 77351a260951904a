"""The invariants of deployments, messages and the configuration database that plain queries decide; as in
`releases.invariant_queries`. At the end: the constraints without which nothing of it can be relied on.
"""

QUERIES: tuple[tuple[str, str, str], ...] = (
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
        "I3",
        "deployment {0} counts {1} reports of its device and has {2} events of them",
        """
        SELECT d.id, d.reports, coalesce(taken.number, 0) FROM distribution_deployment d
        LEFT JOIN (
            SELECT deployment_id, count(*) AS number FROM distribution_deploymentevent
            WHERE kind IN ('report', 'cancel_report') GROUP BY deployment_id
        ) taken ON taken.deployment_id = d.id
        WHERE d.reports <> coalesce(taken.number, 0)
        """,
    ),
    (
        "I3",
        "deployment {0}: {1} of the same reports are not marked as repetitions",
        """
        SELECT deployment_id, count(*) FROM distribution_deploymentevent
        WHERE fingerprint <> '' AND NOT is_duplicate AND kind IN ('report', 'cancel_report')
        GROUP BY deployment_id, kind, fingerprint HAVING count(*) > 1
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
            OR state = 'bundled' AND digest_id IS NULL OR state = 'withdrawn' AND read_at IS NULL
            OR state <> ALL(%(message_states)s)
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
    (
        "{1}",
        "{0} is missing or not valid: nothing but luck keeps {1} from now on",
        """
        SELECT wanted.name, wanted.invariant FROM (VALUES
            ('distribution_attempt_once', 'I1'),
            ('distribution_one_live_per_ci', 'I2'),
            ('distribution_finished_means_terminal', 'I4'),
            ('distribution_deployment_state_known', 'I4'),
            ('release_verdict_once', 'I6'),
            ('release_wave_number_once', 'I6'),
            ('release_one_active_rollout', 'I6'),
            ('release_exception_once', 'I8'),
            ('notifications_outbox_once', 'I10')
        ) wanted(name, invariant)
        WHERE NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conname = wanted.name AND c.convalidated)
            AND NOT EXISTS (
                SELECT 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                WHERE c.relname = wanted.name AND i.indisunique AND i.indisvalid)
        """,
    ),
)
