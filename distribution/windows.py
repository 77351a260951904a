"""Maintenance windows as conditions of a statement on the deployment `d` of the batch `b`, at the time `%(now)s`."""

_ENDS = "opens.starts + make_interval(mins => w.minutes)"


def _without_window(occurs: str) -> str:
    """Whether the CI has no window, the batch ignores it, or the window has an occurrence like this."""
    return f"""(b.ignores_windows OR NOT EXISTS (
        SELECT 1 FROM cmdb_configurationitem wci JOIN cmdb_ciclass kind ON kind.id = wci.ci_class_id
        JOIN cmdb_maintenancewindow w ON w.id = coalesce(wci.maintenance_window_id, kind.maintenance_window_id)
        WHERE wci.id = d.ci_id AND wci.copy_of_id IS NULL AND NOT EXISTS (
            SELECT 1 FROM generate_series(-16, 0) AS back,
                LATERAL (SELECT (%(now)s AT TIME ZONE w.zone)::date + back AS day) AS local,
                LATERAL (SELECT (local.day + w.start) AT TIME ZONE w.zone AS starts) AS opens
            WHERE strpos(w.weekdays, extract(isodow FROM local.day)::text) > 0 AND ({occurs}))))"""  # noqa: S608


IS_OPEN = _without_window(f"opens.starts <= %(now)s AND {_ENDS} > %(now)s")


def had_its_window(since: str, deadline: str) -> str:
    """Whether the CI had time to act: it has no window, a whole one passed since `since`, or one has been open for
    the length of `deadline`. Windows come back each week, so that a fortnight decides.
    """
    is_over = f"opens.starts >= {since} AND {_ENDS} <= %(now)s"
    is_long = f"opens.starts <= %(now)s - make_interval(secs => {deadline}) AND {_ENDS} > %(now)s"
    return _without_window(f"{is_over} OR {is_long}")
