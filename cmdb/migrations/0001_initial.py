import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('accounts', '0001_initial'),
        ('accounts', '__first__'),
        ('pghistory', '0007_auto_20250421_0444'),
        ('software', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='AgentProfile',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=64, unique=True, verbose_name='name')),
                ('proof', models.CharField(choices=[('attributes', 'it reports the version that runs'), ('closed', 'it closes the action only after the restart')], default='attributes', max_length=10, verbose_name='proof of success')),
                ('attribute_key', models.CharField(default='version.{product}', help_text="Key of the attribute that names the version; {product} stands for the product's short name.", max_length=64, verbose_name='attribute')),
                ('can_remove', models.BooleanField(default=True, verbose_name='can uninstall')),
                ('one_file_only', models.BooleanField(default=False, verbose_name='takes one file per deployment')),
            ],
            options={
                'verbose_name': 'agent profile',
                'verbose_name_plural': 'agent profiles',
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='CIClass',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, unique=True, verbose_name='name')),
                ('slug', models.SlugField(unique=True, verbose_name='short name')),
            ],
            options={
                'verbose_name': 'CI class',
                'verbose_name_plural': 'CI classes',
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='ConfigurationItem',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=128, unique=True, verbose_name='name')),
                ('lifecycle', models.CharField(choices=[('planned', 'planned'), ('ordered', 'ordered'), ('in_stock', 'in stock'), ('in_operation', 'in operation'), ('in_repair', 'in repair'), ('retired', 'retired'), ('disposed', 'disposed')], default='in_operation', max_length=12, verbose_name='lifecycle')),
                ('description', models.TextField(blank=True, verbose_name='description')),
                ('agent_id', models.CharField(blank=True, help_text='How the device names itself to the distribution system; empty: without an agent.', max_length=128, null=True, unique=True, validators=[django.core.validators.RegexValidator('^[A-Za-z0-9][A-Za-z0-9._:-]*$')], verbose_name='agent id')),
                ('attributes', models.JSONField(blank=True, default=dict, verbose_name='reported attributes')),
                ('attributes_at', models.DateTimeField(blank=True, null=True)),
                ('attributes_wanted', models.BooleanField(default=True)),
                ('last_seen_at', models.DateTimeField(blank=True, null=True, verbose_name='last seen')),
                ('created_at', models.DateTimeField(verbose_name='created')),
                ('agent_profile', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='cis', to='cmdb.agentprofile', verbose_name='agent profile')),
                ('ci_class', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='cis', to='cmdb.ciclass', verbose_name='class')),
                ('copy_of', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='copies', to='cmdb.configurationitem', verbose_name='copy of')),
                ('owner', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='owned_cis', to=settings.AUTH_USER_MODEL, verbose_name='owner')),
                ('team', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='cis', to='accounts.team', verbose_name='team')),
            ],
            options={
                'verbose_name': 'configuration item',
                'verbose_name_plural': 'configuration items',
                'ordering': ['name'],
                'permissions': [('see_all_cis', 'Can see every configuration item'), ('manage_cis', "Can register and change configuration items and their agents' tokens")],
            },
        ),
        migrations.CreateModel(
            name='AgentToken',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('sha256', models.CharField(max_length=64, unique=True)),
                ('created_at', models.DateTimeField()),
                ('revoked_at', models.DateTimeField(blank=True, null=True)),
                ('ci', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='agent_tokens', to='cmdb.configurationitem')),
            ],
            options={
                'verbose_name': 'agent token',
                'verbose_name_plural': 'agent tokens',
            },
        ),
        migrations.CreateModel(
            name='AgentTokenHistory',
            fields=[
                ('pgh_id', models.AutoField(primary_key=True, serialize=False)),
                ('pgh_created_at', models.DateTimeField(auto_now_add=True)),
                ('pgh_label', models.TextField(help_text='The event label.')),
                ('id', models.BigIntegerField()),
                ('created_at', models.DateTimeField()),
                ('revoked_at', models.DateTimeField(blank=True, null=True)),
                ('pgh_context', models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='pghistory.context')),
                ('pgh_obj', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='history', to='cmdb.agenttoken')),
                ('ci', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to='cmdb.configurationitem')),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='ConfigurationItemHistory',
            fields=[
                ('pgh_id', models.AutoField(primary_key=True, serialize=False)),
                ('pgh_created_at', models.DateTimeField(auto_now_add=True)),
                ('pgh_label', models.TextField(help_text='The event label.')),
                ('id', models.BigIntegerField()),
                ('name', models.CharField(max_length=128, verbose_name='name')),
                ('lifecycle', models.CharField(choices=[('planned', 'planned'), ('ordered', 'ordered'), ('in_stock', 'in stock'), ('in_operation', 'in operation'), ('in_repair', 'in repair'), ('retired', 'retired'), ('disposed', 'disposed')], default='in_operation', max_length=12, verbose_name='lifecycle')),
                ('description', models.TextField(blank=True, verbose_name='description')),
                ('agent_id', models.CharField(blank=True, help_text='How the device names itself to the distribution system; empty: without an agent.', max_length=128, null=True, validators=[django.core.validators.RegexValidator('^[A-Za-z0-9][A-Za-z0-9._:-]*$')], verbose_name='agent id')),
                ('created_at', models.DateTimeField(verbose_name='created')),
                ('agent_profile', models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to='cmdb.agentprofile', verbose_name='agent profile')),
                ('ci_class', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to='cmdb.ciclass', verbose_name='class')),
                ('copy_of', models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to='cmdb.configurationitem', verbose_name='copy of')),
                ('owner', models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to=settings.AUTH_USER_MODEL, verbose_name='owner')),
                ('pgh_context', models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='pghistory.context')),
                ('pgh_obj', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='history', to='cmdb.configurationitem')),
                ('team', models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to='accounts.team', verbose_name='team')),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='Relation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('depends_on', 'depends on'), ('runs_on', 'runs on'), ('uses', 'uses')], default='depends_on', max_length=10)),
                ('source', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='depends', to='cmdb.configurationitem')),
                ('target', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='supports', to='cmdb.configurationitem')),
            ],
            options={
                'verbose_name': 'relation',
                'verbose_name_plural': 'relations',
                'constraints': [models.UniqueConstraint(fields=('source', 'target', 'kind'), name='cmdb_relation_once'), models.CheckConstraint(condition=models.Q(('source', models.F('target')), _negated=True), name='cmdb_relation_not_to_itself')],
            },
        ),
        migrations.CreateModel(
            name='RelationHistory',
            fields=[
                ('pgh_id', models.AutoField(primary_key=True, serialize=False)),
                ('pgh_created_at', models.DateTimeField(auto_now_add=True)),
                ('pgh_label', models.TextField(help_text='The event label.')),
                ('id', models.BigIntegerField()),
                ('kind', models.CharField(choices=[('depends_on', 'depends on'), ('runs_on', 'runs on'), ('uses', 'uses')], default='depends_on', max_length=10)),
                ('pgh_context', models.ForeignKey(db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='pghistory.context')),
                ('pgh_obj', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='history', to='cmdb.relation')),
                ('source', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to='cmdb.configurationitem')),
                ('target', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', related_query_name='+', to='cmdb.configurationitem')),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='InstalledVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('label', models.CharField(max_length=64, verbose_name='version')),
                ('valid_from', models.DateTimeField(verbose_name='since')),
                ('valid_to', models.DateTimeField(blank=True, null=True, verbose_name='until')),
                ('source', models.CharField(blank=True, max_length=64)),
                ('is_drift', models.BooleanField(default=False, help_text='Reported without a deployment that explains it.', verbose_name='drift')),
                ('ci', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='installed_versions', to='cmdb.configurationitem')),
                ('product', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='installations', to='software.product')),
                ('replaced', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='cmdb.installedversion')),
                ('version', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='installations', to='software.version')),
            ],
            options={
                'verbose_name': 'installed version',
                'verbose_name_plural': 'installed versions',
                'ordering': ['-valid_from', '-id'],
                'indexes': [models.Index(condition=models.Q(('valid_to__isnull', True)), fields=['product', 'version'], name='cmdb_installed_now')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('valid_to__isnull', True)), fields=('ci', 'product'), name='cmdb_installed_current_once')],
            },
        ),
    ]
