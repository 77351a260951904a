from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='PriorityRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('impact', models.CharField(choices=[('high', 'high'), ('medium', 'medium'), ('low', 'low')], max_length=6, verbose_name='impact')),
                ('urgency', models.CharField(choices=[('high', 'high'), ('medium', 'medium'), ('low', 'low')], max_length=6, verbose_name='urgency')),
                ('priority', models.PositiveSmallIntegerField(choices=[(1, 'P1 critical'), (2, 'P2 high'), (3, 'P3 moderate'), (4, 'P4 low'), (5, 'P5 planning')], verbose_name='priority')),
            ],
            options={
                'verbose_name': 'priority rule',
                'verbose_name_plural': 'priority matrix',
                'constraints': [models.UniqueConstraint(fields=('impact', 'urgency'), name='tickets_priority_cell_once')],
            },
        ),
    ]
