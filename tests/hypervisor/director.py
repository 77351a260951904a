"""What the chain's people do beside the API: the orders of the fault tests, and two more."""

import io
from datetime import timedelta
from typing import Any

from tests.faults.director import ORDERS, POLICY, main


def open_doors(*, password: str, disk: str, soak_seconds: int) -> None:
    """Everybody may sign in; the CI's disk may be copied; minor releases need a machine, major ones a fast one."""
    from django.contrib.auth.hashers import make_password

    from accounts.models import User
    from cmdb.models import ConfigurationItem
    from releases.models import TestPolicy
    from test_environments.models import CopySource

    User.objects.update(password=make_password(password))
    ci = ConfigurationItem.objects.production().get()
    CopySource.objects.create(ci=ci, folder=disk, driver="libvirt", method="disk", kind="physical")
    for release_type, evidence in (("minor", "emulated"), ("major", "accelerated")):
        TestPolicy.objects.create(release_type=release_type, soak_seconds=soak_seconds, evidence=evidence)


def build_release(*, label: str, release_type: str, is_healthy: bool = True) -> str:
    """A version of billing with an authorised RFC, in a release that is built; its number."""
    from accounts.models import User
    from changes import services as changes
    from releases import services as releases
    from software.models import Product
    from software.services import create_version, store_artifact
    from tests.agent.ci import software
    from tickets.clock import database_now

    def person(username: str) -> Any:
        return User.objects.get(username=username)

    now, engineer, author = database_now(), person("engineer"), person("author")
    product = Product.objects.get(slug="billing")
    version = create_version(product, actor=engineer, now=now, label=label)
    content = io.BytesIO(software("billing", label, healthy=is_healthy))
    store_artifact(version, actor=engineer, now=now, filename=f"billing-{label}.tar.gz", stream=content)
    plans = {"implementation_plan": "Roll out.", "test_plan": "On a copy.", "backout_plan": "Roll back."}
    change = changes.draft_change(actor=author, now=now, title=f"Billing {label}", products=[product], **plans)
    changes.submit_change(change, actor=author, now=now)
    changes.assess_change(change, actor=person("manager"), now=now, risk="low", risk_reason="Known.")
    changes.approve_change(change, actor=person("board"), now=now)
    planned = {"planned_start": now - timedelta(minutes=1), "planned_end": now + timedelta(hours=8)}
    changes.schedule_change(change, actor=person("manager"), now=now, **planned)
    policy = {**POLICY, "waves": [{"rest": True}]}
    facts = {"title": f"Billing {label}", "release_type": release_type, "policy": policy}
    release = releases.draft_release(actor=engineer, now=now, changes=[change], versions=[version], **facts)
    left_out = {other.pk: "Later." for other in releases.left_out_changes(release)}
    releases.plan_release(release, actor=engineer, now=now, left_out=left_out)
    releases.build_release(release, actor=engineer, now=now)
    return str(release.number)


ORDERS |= {"open_doors": open_doors, "build_release": build_release}

if __name__ == "__main__":
    main()
