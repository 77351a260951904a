import django.db.models.deletion
import test_environments.folders
import tickets.lifecycle
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('accounts', '__first__'),
        ('cmdb', '0001_initial'),
        ('pghistory', '0007_auto_20250421_0444'),
    ]

    operations = [
        migrations.CreateModel(
            name='CopySource',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('folder', models.CharField(help_text="The agent's root folder of the CI, relative to the folder of sources in the settings.", max_length=255, validators=[test_environments.folders.check_relative_folder], verbose_name='folder')),
                ('ci', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='copy_source', to='cmdb.configurationitem')),
            ],
            options={
                'verbose_name': 'source of copies',
                'verbose_name_plural': 'sources of copies',
            },
        ),
        migrations.CreateModel(
            name='CopySourceHistory',
            fields=[
                ('pgh_id', models.AutoField(primary_key=True, serialize=False)),
                ('pgh_created_at', models.DateTimeField(auto_now_add=True)),
                ('pgh_label', models.TextField(help_text='The event label.')),
                ('id', models.BigIntegerField()),
                ('folder', models.CharField(help_text="The agent's root folder of the CI, relative to the folder of sources in the settings.", max_length=255, validators=[test_environments.folders.check_relative_folder], verbose_name='folder')),
                ('ci', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to='cmdb.configurationitem')),
                ('pgh_context', models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='pghistory.context')),
                ('pgh_obj', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='history', to='test_environments.copysource')),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='TestEnvironment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('driver', models.CharField(default='file_copy', max_length=20)),
                ('evidence', models.CharField(choices=[('file_copy', 'file copy')], default='file_copy', max_length=20)),
                ('state', tickets.lifecycle.StateField(choices=[('requested', 'requested'), ('capturing', 'capturing'), ('provisioning', 'provisioning'), ('ready', 'ready'), ('applying', 'applying a package'), ('destroying', 'being destroyed'), ('destroyed', 'destroyed'), ('error', 'error')], db_index=True, default='requested', max_length=32)),
                ('error_from', models.CharField(blank=True, max_length=32)),
                ('last_error', models.TextField(blank=True)),
                ('is_wanted_running', models.BooleanField(default=False)),
                ('observed_pid', models.PositiveIntegerField(blank=True, null=True)),
                ('observed_at', models.DateTimeField(blank=True, null=True)),
                ('versions', models.JSONField(blank=True, default=dict, help_text="Product and version that the copy runs instead of the source's own.")),
                ('baseline', models.JSONField(blank=True, default=dict, help_text='Product and version that the source ran when it was captured.')),
                ('lease', models.UUIDField(blank=True, null=True)),
                ('leased_until', models.DateTimeField(blank=True, null=True)),
                ('purpose', models.CharField(blank=True, help_text='Who asked, in plain text: REL-0000002.', max_length=64)),
                ('created_at', models.DateTimeField()),
                ('updated_at', models.DateTimeField()),
                ('destroyed_at', models.DateTimeField(blank=True, null=True)),
                ('copy', models.OneToOneField(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='environment', to='cmdb.configurationitem')),
                ('requested_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='test_environments', to=settings.AUTH_USER_MODEL)),
                ('source', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='test_environments', to='cmdb.configurationitem')),
            ],
            options={
                'verbose_name': 'test environment',
                'verbose_name_plural': 'test environments',
                'ordering': ['-id'],
                'permissions': [('see_environments', 'Can see test environments'), ('manage_environments', 'Can create and destroy test environments')],
            },
        ),
        migrations.CreateModel(
            name='TestEnvironmentHistory',
            fields=[
                ('pgh_id', models.AutoField(primary_key=True, serialize=False)),
                ('pgh_created_at', models.DateTimeField(auto_now_add=True)),
                ('pgh_label', models.TextField(help_text='The event label.')),
                ('id', models.BigIntegerField()),
                ('driver', models.CharField(default='file_copy', max_length=20)),
                ('evidence', models.CharField(choices=[('file_copy', 'file copy')], default='file_copy', max_length=20)),
                ('state', tickets.lifecycle.StateField(choices=[('requested', 'requested'), ('capturing', 'capturing'), ('provisioning', 'provisioning'), ('ready', 'ready'), ('applying', 'applying a package'), ('destroying', 'being destroyed'), ('destroyed', 'destroyed'), ('error', 'error')], db_index=True, default='requested', max_length=32)),
                ('error_from', models.CharField(blank=True, max_length=32)),
                ('last_error', models.TextField(blank=True)),
                ('is_wanted_running', models.BooleanField(default=False)),
                ('versions', models.JSONField(blank=True, default=dict, help_text="Product and version that the copy runs instead of the source's own.")),
                ('baseline', models.JSONField(blank=True, default=dict, help_text='Product and version that the source ran when it was captured.')),
                ('purpose', models.CharField(blank=True, help_text='Who asked, in plain text: REL-0000002.', max_length=64)),
                ('created_at', models.DateTimeField()),
                ('destroyed_at', models.DateTimeField(blank=True, null=True)),
                ('copy', models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to='cmdb.configurationitem')),
                ('pgh_context', models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='pghistory.context')),
                ('pgh_obj', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='history', to='test_environments.testenvironment')),
                ('requested_by', models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to=settings.AUTH_USER_MODEL)),
                ('source', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to='cmdb.configurationitem')),
            ],
            options={
                'abstract': False,
            },
        ),
    ]
