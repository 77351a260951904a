from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("distribution", "0011_fewer_indexes"),
    ]

    operations = [
        migrations.AddField(
            model_name="batch",
            name="cancel_mark",
            field=models.BigIntegerField(
                blank=True,
                help_text="Id of the last CI whose deployment was cancelled; empty: nothing more is.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="batch",
            name="cancel_reason",
            field=models.CharField(blank=True, max_length=200),
        ),
    ]
