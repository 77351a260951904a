from django.db import migrations

# `AlterField` of 0011 took this one for the index of the foreign key: both are on `ci_id` alone.
ONE_LIVE = """
CREATE UNIQUE INDEX IF NOT EXISTS distribution_one_live_per_ci ON distribution_deployment (ci_id)
WHERE state IN ('offered', 'downloading', 'installing', 'confirming', 'cancelling', 'unknown')
"""


class Migration(migrations.Migration):
    dependencies = [("distribution", "0011_fewer_indexes")]

    operations = [migrations.RunSQL(ONE_LIVE, migrations.RunSQL.noop)]
