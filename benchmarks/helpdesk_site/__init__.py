"""A site of django-helpdesk as its documentation sets it up, for `benchmarks.helpdesk`.

It runs in an environment of its own: `settings`, `urls` and `seed` see django-helpdesk's packages only.
"""
