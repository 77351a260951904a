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
        ('incidents', '0001_initial'),
        ('pghistory', '0007_auto_20250421_0444'),
    ]

    operations = [
        migrations.CreateModel(
            name='Problem',
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
                ('state', tickets.lifecycle.StateField(choices=[('new', 'new'), ('assessed', 'assessed'), ('root_cause_analysis', 'root cause analysis'), ('fix_in_progress', 'fix in progress'), ('resolved', 'resolved'), ('closed', 'closed')], db_index=True, default='new', max_length=32)),
                ('root_cause', models.TextField(blank=True, verbose_name='root cause')),
                ('workaround', models.TextField(blank=True, verbose_name='workaround')),
                ('is_known_error', models.BooleanField(default=False, verbose_name='known error')),
                ('close_code', models.CharField(blank=True, choices=[('fix_applied', 'fix applied'), ('risk_accepted', 'risk accepted'), ('duplicate', 'duplicate'), ('cancelled', 'cancelled')], max_length=13, verbose_name='close code')),
                ('resolved_by_event', models.CharField(blank=True, max_length=64)),
                ('assignee', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='assigned_%(class)ss', to=settings.AUTH_USER_MODEL, verbose_name='assignee')),
                ('created_by', models.ForeignKey(blank=True, help_text='Empty when the portal itself opened it.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='created_%(class)ss', to=settings.AUTH_USER_MODEL, verbose_name='created by')),
                ('incidents', models.ManyToManyField(blank=True, related_name='problems', to='incidents.incident', verbose_name='incidents')),
                ('requester', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='requested_%(class)ss', to=settings.AUTH_USER_MODEL, verbose_name='requester')),
                ('team', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='%(class)ss', to='accounts.team', verbose_name='team')),
                ('watchers', models.ManyToManyField(blank=True, related_name='watched_%(class)ss', to=settings.AUTH_USER_MODEL, verbose_name='watchers')),
            ],
            options={
                'verbose_name': 'problem',
                'verbose_name_plural': 'problems',
                'ordering': ['-id'],
                'permissions': [('see_all_problems', 'Can see every problem'), ('open_problem', 'Can open problems from incidents'), ('work_problem', 'Can work on problems and communicate workarounds')],
                'constraints': [models.CheckConstraint(condition=models.Q(('activity__in', ['inspection', 'repair'])), name='problem_activity_applies'), models.CheckConstraint(condition=models.Q(('is_known_error', False), models.Q(models.Q(('root_cause', ''), _negated=True), models.Q(('workaround', ''), _negated=True)), _connector='OR'), name='problem_known_error_is_documented'), models.CheckConstraint(condition=models.Q(models.Q(('state', 'closed'), _negated=True), models.Q(('close_code', ''), _negated=True), _connector='OR'), name='problem_closed_with_code')],
            },
        ),
        migrations.CreateModel(
            name='ProblemEntry',
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
                ('ticket', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='entries', to='problems.problem')),
            ],
            options={
                'verbose_name': 'problem entry',
                'ordering': ['created_at', 'id'],
                'abstract': False,
                'constraints': [models.UniqueConstraint(condition=models.Q(('key', ''), _negated=True), fields=('ticket', 'key'), name='problem_entry_key_once')],
            },
        ),
        migrations.CreateModel(
            name='ProblemHistory',
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
                ('state', tickets.lifecycle.StateField(choices=[('new', 'new'), ('assessed', 'assessed'), ('root_cause_analysis', 'root cause analysis'), ('fix_in_progress', 'fix in progress'), ('resolved', 'resolved'), ('closed', 'closed')], db_index=True, default='new', max_length=32)),
                ('root_cause', models.TextField(blank=True, verbose_name='root cause')),
                ('workaround', models.TextField(blank=True, verbose_name='workaround')),
                ('is_known_error', models.BooleanField(default=False, verbose_name='known error')),
                ('close_code', models.CharField(blank=True, choices=[('fix_applied', 'fix applied'), ('risk_accepted', 'risk accepted'), ('duplicate', 'duplicate'), ('cancelled', 'cancelled')], max_length=13, verbose_name='close code')),
                ('resolved_by_event', models.CharField(blank=True, max_length=64)),
                ('assignee', models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to=settings.AUTH_USER_MODEL, verbose_name='assignee')),
                ('created_by', models.ForeignKey(blank=True, db_constraint=False, help_text='Empty when the portal itself opened it.', null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to=settings.AUTH_USER_MODEL, verbose_name='created by')),
                ('pgh_context', models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='pghistory.context')),
                ('pgh_obj', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='history', to='problems.problem')),
                ('requester', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to=settings.AUTH_USER_MODEL, verbose_name='requester')),
                ('team', models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to='accounts.team', verbose_name='team')),
            ],
            options={
                'abstract': False,
            },
        ),
    ]
