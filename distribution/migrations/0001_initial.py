import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('cmdb', '0001_initial'),
        ('software', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='Batch',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('label', models.CharField(help_text='For example ROL-0000003.', max_length=64)),
                ('purpose', models.CharField(choices=[('forward', 'rollout'), ('rollback', 'rollback'), ('test', 'test')], max_length=8)),
                ('is_open', models.BooleanField(default=False)),
                ('weight', models.PositiveSmallIntegerField(default=500, help_text='Higher goes first on a CI.')),
                ('max_in_flight', models.PositiveIntegerField(blank=True, null=True)),
                ('offer_deadline', models.PositiveIntegerField(blank=True, null=True)),
                ('progress_deadline', models.PositiveIntegerField(blank=True, null=True)),
                ('confirm_deadline', models.PositiveIntegerField(blank=True, null=True)),
                ('created_at', models.DateTimeField()),
                ('opened_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'verbose_name': 'batch',
                'verbose_name_plural': 'batches',
            },
        ),
        migrations.CreateModel(
            name='Deployment',
            fields=[
                ('id', models.AutoField(primary_key=True, serialize=False)),
                ('attempt', models.PositiveSmallIntegerField(default=1)),
                ('state', models.CharField(choices=[('queued', 'waiting'), ('offered', 'offered'), ('downloading', 'downloading'), ('installing', 'installing'), ('confirming', 'confirming'), ('cancelling', 'being cancelled'), ('unknown', 'unknown'), ('succeeded', 'succeeded'), ('failed', 'failed'), ('cancelled', 'cancelled'), ('superseded', 'superseded'), ('excluded', 'excluded'), ('skipped', 'already there')], default='queued', max_length=11)),
                ('state_before_cancel', models.CharField(blank=True, max_length=11)),
                ('weight', models.PositiveSmallIntegerField(default=500)),
                ('created_at', models.DateTimeField()),
                ('offered_at', models.DateTimeField(blank=True, null=True)),
                ('moved_at', models.DateTimeField(help_text='When the state changed last.')),
                ('reported_at', models.DateTimeField(blank=True, null=True)),
                ('closed_at', models.DateTimeField(blank=True, help_text='When the device closed the action.', null=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
                ('overdue_at', models.DateTimeField(blank=True, null=True)),
                ('error_code', models.CharField(blank=True, max_length=64)),
                ('message', models.CharField(blank=True, max_length=512)),
                ('reports', models.PositiveIntegerField(default=0)),
                ('reason', models.CharField(blank=True, help_text='Why it was excluded or cancelled.', max_length=200)),
                ('batch', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='deployments', to='distribution.batch')),
                ('ci', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='deployments', to='cmdb.configurationitem')),
            ],
            options={
                'verbose_name': 'deployment',
                'verbose_name_plural': 'deployments',
                'indexes': [models.Index(condition=models.Q(('state__in', ['queued', 'offered', 'downloading', 'installing', 'confirming', 'cancelling', 'unknown'])), fields=['ci', '-weight', 'id'], name='distribution_open_of_ci'), models.Index(fields=['batch', 'state'], name='distribution_batch_state'), models.Index(fields=['ci', '-id'], name='distribution_of_ci')],
                'constraints': [models.UniqueConstraint(fields=('batch', 'ci', 'attempt'), name='distribution_attempt_once'), models.UniqueConstraint(condition=models.Q(('state__in', ['offered', 'downloading', 'installing', 'confirming', 'cancelling', 'unknown'])), fields=('ci',), name='distribution_one_live_per_ci'), models.CheckConstraint(condition=models.Q(('state__in', ['queued', 'offered', 'downloading', 'installing', 'confirming', 'cancelling', 'unknown', 'succeeded', 'failed', 'cancelled', 'superseded', 'excluded', 'skipped'])), name='distribution_deployment_state_known'), models.CheckConstraint(condition=models.Q(('finished_at__isnull', True), ('state__in', ['succeeded', 'failed', 'cancelled', 'superseded', 'excluded', 'skipped']), _connector='XOR'), name='distribution_finished_means_terminal')],
            },
        ),
        migrations.CreateModel(
            name='DeploymentEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('created', 'created'), ('offered', 'offered'), ('report', 'report of the device'), ('cancel_report', 'answer to a cancel'), ('attributes', 'attributes of the device'), ('download', 'download'), ('engine', 'by the portal')], max_length=13)),
                ('from_state', models.CharField(blank=True, max_length=11)),
                ('to_state', models.CharField(max_length=11)),
                ('at', models.DateTimeField()),
                ('execution', models.CharField(blank=True, max_length=16)),
                ('result', models.CharField(blank=True, max_length=16)),
                ('details', models.JSONField(blank=True, default=list)),
                ('fingerprint', models.CharField(blank=True, db_default='', help_text="Of the report's body: a repetition has the same.", max_length=32)),
                ('is_duplicate', models.BooleanField(default=False)),
                ('deployment', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='events', to='distribution.deployment')),
            ],
            options={
                'verbose_name': 'deployment event',
                'verbose_name_plural': 'deployment events',
                'ordering': ['id'],
                'indexes': [models.Index(fields=['deployment', 'id'], name='distribution_event_of')],
            },
        ),
        migrations.CreateModel(
            name='DeploymentItem',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveSmallIntegerField(default=1)),
                ('deployment', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='items', to='distribution.deployment')),
                ('from_version', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='software.version')),
                ('product', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='software.product')),
                ('to_version', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='deployments', to='software.version')),
            ],
            options={
                'ordering': ['position'],
                'constraints': [models.UniqueConstraint(fields=('deployment', 'product'), name='distribution_item_once'), models.CheckConstraint(condition=models.Q(('to_version__isnull', False), ('from_version__isnull', False), _connector='OR'), name='distribution_item_not_empty')],
            },
        ),
    ]
