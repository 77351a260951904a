#!/bin/sh
# What `make check` runs; every check runs even when an earlier one fails.
set -u
bin=.venv/bin
status=0
step() {
    name=$1
    shift
    if output=$("$@" 2>&1); then
        echo "ok    $name"
    else
        status=1
        echo "FAIL  $name"
        printf '%s\n' "$output" | tail -n 60
    fi
}
# Settings without servers: these checks open no connection.
export PORTAL_PROFILE=test DATABASE_URL=postgres://check@127.0.0.1:1/check REDIS_URL=redis://127.0.0.1:1/0
production() {
    PORTAL_PROFILE=production ALLOWED_HOSTS=portal.example.org EMAIL_URL=smtp+tls://u:p@mail.example.org:587 \
        PORTAL_URL=https://portal.example.org \
        SECRET_KEY=$($bin/python -c 'import secrets; print(secrets.token_urlsafe(60))') \
        $bin/python manage.py check --deploy --fail-level WARNING
}
step "ruff" $bin/ruff check .
step "format" $bin/ruff format --check .
step "layers" $bin/lint-imports
step "types" $bin/mypy .
step "migrations" $bin/python -W ignore manage.py makemigrations --check --dry-run
step "templates" $bin/djlint --lint --quiet templates
step "texts" $bin/python locale/compile.py --check
step "deployment" production
step "API schema" $bin/python manage.py spectacular --validate --fail-on-warn --file /dev/null
step "lifecycles" $bin/python manage.py lifecycles --check
exit $status
