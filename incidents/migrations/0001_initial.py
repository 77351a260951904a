import django.core.validators
import django.db.models.deletion
import tickets.lifecycle
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('accounts', '0001_initial'),
        ('accounts', '__first__'),
        ('cmdb', '0001_initial'),
        ('pghistory', '0007_auto_20250421_0444'),
    ]

    operations = [
        migrations.CreateModel(
            name='Incident',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('title', models.CharField(max_length=200, validators=[django.core.validators.MinLengthValidator(3)], verbose_name='title')),
                ('description', models.TextField(blank=True, help_text='Markdown', verbose_name='description')),
                ('impact', models.CharField(choices=[('high', 'high'), ('medium', 'medium'), ('low', 'low')], default='medium', max_length=6, verbose_name='impact')),
                ('urgency', models.CharField(choices=[('high', 'high'), ('medium', 'medium'), ('low', 'low')], default='medium', max_length=6, verbose_name='urgency')),
                ('priority', models.PositiveSmallIntegerField(choices=[(1, 'P1 critical'), (2, 'P2 high'), (3, 'P3 moderate'), (4, 'P4 low'), (5, 'P5 planning')], default=3, verbose_name='priority')),
                ('activity', models.CharField(choices=[('maintenance', 'Maintenance (Wartung)'), ('inspection', 'Inspection (Inspektion)'), ('repair', 'Repair (Instandsetzung)'), ('improvement', 'Improvement (Verbesserung)')], default='repair', max_length=12, verbose_name='activity')),
                ('created_at', models.DateTimeField(verbose_name='created')),
                ('updated_at', models.DateTimeField(verbose_name='updated')),
                ('version', models.PositiveIntegerField(default=1, editable=False)),
                ('state', tickets.lifecycle.StateField(choices=[('new', 'new'), ('assigned', 'assigned'), ('in_progress', 'in progress'), ('on_hold', 'on hold'), ('resolved', 'resolved'), ('closed', 'closed'), ('cancelled', 'cancelled')], db_index=True, default='new', max_length=32)),
                ('is_major', models.BooleanField(default=False, verbose_name='major incident')),
                ('hold_reason', models.CharField(blank=True, choices=[('caller', 'waiting for the caller'), ('problem', 'waiting for the problem'), ('change', 'waiting for a change'), ('release', 'waiting for a release'), ('vendor', 'waiting for the vendor')], max_length=8, verbose_name='on hold because')),
                ('resolution', models.TextField(blank=True, verbose_name='resolution')),
                ('resolved_at', models.DateTimeField(blank=True, null=True)),
                ('resolved_by_event', models.CharField(blank=True, max_length=64)),
                ('hold_reason_before', models.CharField(blank=True, choices=[('caller', 'waiting for the caller'), ('problem', 'waiting for the problem'), ('change', 'waiting for a change'), ('release', 'waiting for a release'), ('vendor', 'waiting for the vendor')], max_length=8)),
                ('assignee', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='assigned_%(class)ss', to=settings.AUTH_USER_MODEL, verbose_name='assignee')),
                ('ci', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='incidents', to='cmdb.configurationitem', verbose_name='configuration item')),
                ('created_by', models.ForeignKey(blank=True, help_text='Empty when the portal itself opened it.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='created_%(class)ss', to=settings.AUTH_USER_MODEL, verbose_name='created by')),
                ('requester', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='requested_%(class)ss', to=settings.AUTH_USER_MODEL, verbose_name='requester')),
                ('team', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to='accounts.team', verbose_name='team')),
                ('watchers', models.ManyToManyField(blank=True, related_name='watched_%(class)ss', to=settings.AUTH_USER_MODEL, verbose_name='watchers')),
            ],
            options={
                'verbose_name': 'incident',
                'verbose_name_plural': 'incidents',
                'ordering': ['-id'],
                'permissions': [('report_incident', 'Can report incidents'), ('see_all_incidents', 'Can see every incident'), ('work_incident', 'Can work on incidents: assign, hold, resolve, close'), ('manage_major_incident', 'Can declare a major incident')],
                'indexes': [models.Index(fields=['ci', 'state'], name='incident_of_ci')],
                'constraints': [models.CheckConstraint(condition=models.Q(('activity__in', ['repair'])), name='incident_activity_applies'), models.CheckConstraint(condition=models.Q(models.Q(('state', 'on_hold'), models.Q(('hold_reason', ''), _negated=True)), models.Q(models.Q(('state', 'on_hold'), _negated=True), ('hold_reason', '')), _connector='OR'), name='incident_hold_has_reason')],
            },
        ),
        migrations.CreateModel(
            name='IncidentEntry',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('comment', 'comment'), ('note', 'internal note'), ('state', 'state change'), ('link', 'link'), ('system', 'from the portal')], max_length=8)),
                ('is_public', models.BooleanField(default=True, help_text='Seen by the requester; internal notes are not.')),
                ('text', models.TextField(blank=True)),
                ('from_state', models.CharField(blank=True, max_length=32)),
                ('to_state', models.CharField(blank=True, max_length=32)),
                ('created_at', models.DateTimeField()),
                ('key', models.CharField(blank=True, max_length=120)),
                ('author', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('ticket', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='entries', to='incidents.incident')),
            ],
            options={
                'verbose_name': 'incident entry',
                'ordering': ['created_at', 'id'],
                'abstract': False,
                'constraints': [models.UniqueConstraint(condition=models.Q(('key', ''), _negated=True), fields=('ticket', 'key'), name='incident_entry_key_once')],
            },
        ),
        migrations.CreateModel(
            name='IncidentHistory',
            fields=[
                ('pgh_id', models.AutoField(primary_key=True, serialize=False)),
                ('pgh_created_at', models.DateTimeField(auto_now_add=True)),
                ('pgh_label', models.TextField(help_text='The event label.')),
                ('id', models.BigIntegerField()),
                ('title', models.CharField(max_length=200, validators=[django.core.validators.MinLengthValidator(3)], verbose_name='title')),
                ('description', models.TextField(blank=True, help_text='Markdown', verbose_name='description')),
                ('impact', models.CharField(choices=[('high', 'high'), ('medium', 'medium'), ('low', 'low')], default='medium', max_length=6, verbose_name='impact')),
                ('urgency', models.CharField(choices=[('high', 'high'), ('medium', 'medium'), ('low', 'low')], default='medium', max_length=6, verbose_name='urgency')),
                ('priority', models.PositiveSmallIntegerField(choices=[(1, 'P1 critical'), (2, 'P2 high'), (3, 'P3 moderate'), (4, 'P4 low'), (5, 'P5 planning')], default=3, verbose_name='priority')),
                ('activity', models.CharField(choices=[('maintenance', 'Maintenance (Wartung)'), ('inspection', 'Inspection (Inspektion)'), ('repair', 'Repair (Instandsetzung)'), ('improvement', 'Improvement (Verbesserung)')], default='repair', max_length=12, verbose_name='activity')),
                ('created_at', models.DateTimeField(verbose_name='created')),
                ('version', models.PositiveIntegerField(default=1, editable=False)),
                ('state', tickets.lifecycle.StateField(choices=[('new', 'new'), ('assigned', 'assigned'), ('in_progress', 'in progress'), ('on_hold', 'on hold'), ('resolved', 'resolved'), ('closed', 'closed'), ('cancelled', 'cancelled')], db_index=True, default='new', max_length=32)),
                ('is_major', models.BooleanField(default=False, verbose_name='major incident')),
                ('hold_reason', models.CharField(blank=True, choices=[('caller', 'waiting for the caller'), ('problem', 'waiting for the problem'), ('change', 'waiting for a change'), ('release', 'waiting for a release'), ('vendor', 'waiting for the vendor')], max_length=8, verbose_name='on hold because')),
                ('resolution', models.TextField(blank=True, verbose_name='resolution')),
                ('resolved_at', models.DateTimeField(blank=True, null=True)),
                ('resolved_by_event', models.CharField(blank=True, max_length=64)),
                ('hold_reason_before', models.CharField(blank=True, choices=[('caller', 'waiting for the caller'), ('problem', 'waiting for the problem'), ('change', 'waiting for a change'), ('release', 'waiting for a release'), ('vendor', 'waiting for the vendor')], max_length=8)),
                ('assignee', models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to=settings.AUTH_USER_MODEL, verbose_name='assignee')),
                ('ci', models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to='cmdb.configurationitem', verbose_name='configuration item')),
                ('created_by', models.ForeignKey(blank=True, db_constraint=False, help_text='Empty when the portal itself opened it.', null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to=settings.AUTH_USER_MODEL, verbose_name='created by')),
                ('pgh_context', models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='pghistory.context')),
                ('pgh_obj', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='history', to='incidents.incident')),
                ('requester', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to=settings.AUTH_USER_MODEL, verbose_name='requester')),
                ('team', models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to='accounts.team', verbose_name='team')),
            ],
            options={
                'abstract': False,
            },
        ),
    ]
