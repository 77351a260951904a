"""The invariants about failures and ways back, as `invariant_queries` writes them."""

# ruff: noqa: S608 - put together from constants

FORWARD = """
    releases_wave w
    JOIN releases_rollout r ON r.id = w.rollout_id
    JOIN distribution_deployment d ON d.batch_id = w.batch_id
"""

QUERIES: tuple[tuple[str, str, str], ...] = (
    (
        "I5",
        "rollout {0}: attempt {2} says that CI {1} went back by itself, but it had not succeeded before",
        f"""
        SELECT r.id, d.ci_id, d.attempt FROM {FORWARD}
        WHERE d.error_code = 'reverted' AND d.offered_at IS NULL AND NOT EXISTS (
            SELECT 1 FROM distribution_deployment p WHERE p.batch_id = d.batch_id AND p.ci_id = d.ci_id
                AND p.attempt = d.attempt - 1 AND p.state = 'succeeded')
        """,
    ),
    (
        "I5",
        "rollout {0}: deployment {1} was offered, although {2} had failed on CI {3} with the same content",
        f"""
        SELECT r.id, d.id, failed.label, d.ci_id FROM {FORWARD}
        JOIN LATERAL (
            SELECT f.id, f.finished_at, b.label FROM distribution_deployment f
            JOIN distribution_batch b ON b.id = f.batch_id AND b.purpose = 'forward' AND b.mode <> 'download_only'
            WHERE f.ci_id = d.ci_id AND f.state = 'failed' AND f.batch_id <> d.batch_id
                AND f.finished_at < d.offered_at - make_interval(secs => %(tolerance)s) AND NOT EXISTS (
                    SELECT 1 FROM distribution_deploymentitem had WHERE had.deployment_id = f.id AND NOT EXISTS (
                        SELECT 1 FROM distribution_deploymentitem has WHERE has.deployment_id = d.id
                            AND has.product_id = had.product_id AND has.to_version_id = had.to_version_id))
        ) failed ON true
        WHERE w.kind = 'forward' AND d.attempt = 1
            -- A person ordered it, for what had failed until then.
            AND NOT (coalesce(r.targets -> 'again' @> to_jsonb(d.ci_id), false) AND failed.finished_at <= d.created_at)
            AND NOT EXISTS (
                SELECT 1 FROM distribution_deployment s JOIN distribution_deploymentitem i ON i.deployment_id = s.id
                WHERE s.ci_id = d.ci_id AND s.state = 'succeeded' AND s.finished_at >= failed.finished_at
                    AND s.finished_at <= d.offered_at AND i.to_version_id IN (
                        SELECT has.to_version_id FROM distribution_deploymentitem has WHERE has.deployment_id = d.id))
        """,
    ),
    (
        "I8",
        "rollout {0} is rolled back, but CI {1} runs what the aborted rollout {2} of its release had brought",
        """
        SELECT DISTINCT r.id, d.ci_id, before.id
        FROM releases_rollout r
        JOIN releases_rollout before ON before.release_id = r.release_id AND before.id < r.id
            AND before.state = 'aborted' AND before.finished_at <= r.finished_at
        JOIN releases_wave w ON w.rollout_id = before.id AND w.kind = 'forward'
        JOIN distribution_deployment d ON d.batch_id = w.batch_id AND d.state = 'succeeded'
            AND d.finished_at <= r.finished_at
        WHERE r.state IN ('rolled_back', 'rolled_back_with_exceptions')
            AND NOT EXISTS (SELECT 1 FROM releases_wave u JOIN distribution_deployment b ON b.batch_id = u.batch_id
                WHERE u.rollout_id IN (r.id, before.id) AND u.kind = 'rollback' AND b.ci_id = d.ci_id
                    AND b.state IN ('succeeded', 'skipped'))
            AND NOT EXISTS (SELECT 1 FROM releases_rolloutexception x WHERE x.rollout_id = r.id AND x.ci_id = d.ci_id)
            -- Somebody else has changed it since.
            AND EXISTS (SELECT 1 FROM distribution_deploymentitem i JOIN cmdb_installedversion iv
                ON iv.ci_id = d.ci_id AND iv.version_id = i.to_version_id AND iv.valid_to IS NULL
                WHERE i.deployment_id = d.id)
        """,
    ),
    (
        "I8",
        "rollout {0} lists CI {1} as without a way back, although it had one",
        """
        SELECT DISTINCT x.rollout_id, x.ci_id
        FROM releases_rolloutexception x
        JOIN releases_wave w ON w.rollout_id = x.rollout_id AND w.kind = 'forward'
        JOIN distribution_batch b ON b.id = w.batch_id AND b.mode <> 'download_only'
        JOIN distribution_deployment d ON d.batch_id = b.id AND d.ci_id = x.ci_id AND d.state = 'succeeded'
        WHERE x.kind = 'no_way_back' AND x.recorded_by_id IS NULL
            AND NOT EXISTS (
                SELECT 1 FROM distribution_deploymentitem i WHERE i.deployment_id = d.id
                    AND (i.way_back <> 'reinstall' OR i.from_version_id IS NULL))
            -- A later rollout has changed it since, and takes it back.
            AND NOT EXISTS (
                SELECT 1 FROM releases_wave later JOIN distribution_deployment o ON o.batch_id = later.batch_id
                WHERE later.rollout_id > x.rollout_id AND o.ci_id = x.ci_id AND o.offered_at IS NOT NULL)
        """,
    ),
    (
        "I8",
        "rollout {0} sent CI {1} back, although its package has no way back",
        f"""
        SELECT r.id, d.ci_id FROM {FORWARD}
        JOIN distribution_deploymentitem i ON i.deployment_id = d.id
        WHERE w.kind = 'rollback' AND i.way_back = 'impossible'
        """,
    ),
    (
        "I8",
        "rollout {0} sent CI {1} back by “{2}”, but it was to leave the version by “{3}”",
        f"""
        SELECT r.id, d.ci_id, i.way_back, gone.way_back FROM {FORWARD}
        JOIN distribution_deploymentitem i ON i.deployment_id = d.id
        JOIN LATERAL (
            SELECT g.way_back FROM distribution_deployment f
            JOIN distribution_batch b ON b.id = f.batch_id AND b.purpose = 'forward'
            JOIN distribution_deploymentitem g ON g.deployment_id = f.id AND g.product_id = i.product_id
            WHERE f.ci_id = d.ci_id AND f.id < d.id AND f.offered_at IS NOT NULL
                AND g.to_version_id IS NOT DISTINCT FROM i.from_version_id
            ORDER BY f.id DESC LIMIT 1
        ) gone ON gone.way_back <> i.way_back
        WHERE w.kind = 'rollback' AND d.offered_at IS NOT NULL
        """,
    ),
    (
        "I8",
        "the rollback of rollout {0} was stopped (wave {1}) and goes on",
        """
        SELECT w.rollout_id, w.number FROM releases_wave w JOIN distribution_batch b ON b.id = w.batch_id
        WHERE w.kind = 'rollback' AND w.state = 'failed' AND (b.is_open OR NOT EXISTS (
            SELECT 1 FROM releases_verdict v WHERE v.wave_id = w.id AND v.outcome = 'breached'))
        """,
    ),
    (
        "I11",
        "rollout {0} was started with a package without a way back, which nobody accepted",
        f"""
        SELECT DISTINCT r.id FROM {FORWARD}
        JOIN distribution_deploymentitem i ON i.deployment_id = d.id AND i.way_back = 'impossible'
        WHERE w.kind = 'forward' AND NOT EXISTS (
            SELECT 1 FROM releases_rolloutexception x WHERE x.release_id = r.release_id AND x.kind = 'no_way_back'
                AND x.ci_id IS NULL AND x.recorded_by_id IS NOT NULL AND x.content_hash = r.approved_hash
                AND x.created_at <= r.started_at)
        """,
    ),
)
