"""The agents that are known to work against the portal; profiles of these names that are there stay as they are."""

from django.db import migrations

PROFILES = (
    {
        "name": "Portal agent",
        "takes": "archive",
        "proof": "attributes",
        "attribute_key": "version.{product}",
        "can_remove": True,
        "one_file_only": False,
        "can_wait": True,
        "notes": "The agent of this portal. Reports what really runs, goes back by itself, waits for its window.",
    },
    {
        "name": "SWUpdate",
        "takes": "swu",
        "proof": "closed",
        "attribute_key": "version.{product}",
        "can_remove": False,
        "one_file_only": False,
        "can_wait": False,
        "notes": "Suricatta, with confirmation after the restart (option -c 2 or the bootloader's state): its close is "
        "the proof. It closes “update: skip” as a success, so the portal hides what its window does not allow. It "
        "accepts a cancellation while it downloads and does not read one while it installs.",
    },
    {
        "name": "RAUC hawkBit updater",
        "takes": "rauc",
        "proof": "attributes",
        "attribute_key": "sw_version",
        "can_remove": False,
        "one_file_only": True,
        "can_wait": True,
        "notes": "Takes one bundle. Closes before the restart, so the device has to write sw_version into its [device] "
        "section when it starts: that is the proof. Accepts a cancellation until it installs, then rejects it.",
    },
    {
        "name": "Generic DDI agent",
        "takes": "archive",
        "proof": "attributes",
        "attribute_key": "version.{product}",
        "can_remove": False,
        "one_file_only": False,
        "can_wait": False,
        "notes": "The careful choice for an agent that nobody has tried: nothing is shown outside its window, nothing "
        "is removed, and only what it reports to run counts.",
    },
)


def seed(apps, schema_editor):
    profiles = apps.get_model("cmdb", "AgentProfile").objects
    for profile in PROFILES:
        profiles.get_or_create(name=profile["name"], defaults=profile)


class Migration(migrations.Migration):

    dependencies = [("cmdb", "0005_windows_profiles_gateways")]

    operations = [migrations.RunPython(seed, migrations.RunPython.noop)]
