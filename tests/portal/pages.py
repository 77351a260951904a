"""Every page of the portal with its address in the told story."""

from tests.portal.story import Story


def pages_of(story: Story) -> dict[str, str]:
    """Pages that answer GET, by name."""
    incident, problem = story.incidents[0].number, story.problem.number
    change, release, rollout = story.change.number, story.release.number, story.rollout.number
    return {
        "home": "/",
        "search": "/search/?q=billing",
        "bell": "/bell/",
        "notices": "/notices/",
        "running rollouts": "/rollouts/running/",
        "activity matrix": "/activity-matrix/",
        "incidents": "/incidents/?scope=all",
        "incident": f"/incidents/{incident}/",
        "new incident": "/incidents/new/",
        "incident bulk": f"/incidents/bulk/assign/?pick={incident}",
        "incident comment": f"/incidents/{incident}/comment/",
        "problems": "/problems/?scope=all",
        "problem": f"/problems/{problem}/",
        "changes": "/changes/?scope=all",
        "change": f"/changes/{change}/",
        "freezes": "/changes/freezes/",
        "releases": "/releases/?scope=all",
        "release package": f"/releases/{release}/?tab=package",
        "release test": f"/releases/{release}/?tab=test",
        "release plan": f"/releases/{release}/?tab=plan",
        "release dry run": f"/releases/{release}/dry-run/",
        "release targets": f"/releases/{release}/dry-run/cis/",
        "release rollout": f"/releases/{release}/?tab=rollout",
        "release review": f"/releases/{release}/?tab=review",
        "rollouts": "/rollouts/",
        "rollout": f"/rollouts/{rollout}/",
        "rollout live": f"/rollouts/{rollout}/live/",
        "cis": "/cis/",
        "ci": f"/cis/{story.cis[0].number}/",
        "ci options": "/cis/options/?field=ci&ci=srv",
        "products": "/software/",
        "product": "/software/billing/",
    }


def staff_pages_of(story: Story) -> dict[str, str]:
    """Pages that need a right; everybody else gets 403 or 404."""
    return {
        "new problem": f"/problems/new/?incidents={story.incidents[0].number}",
        "new change": f"/changes/new/?problems={story.problem.number}",
        "new release": f"/releases/new/?changes={story.change.number}",
        "new ci": "/cis/new/",
        "ci connection": f"/cis/{story.cis[0].number}/connection/",
        "waiting devices": "/cis/waiting/",
        "gateways": "/cis/gateways/",
        "new gateway": "/cis/gateways/new/",
        "import cis": "/cis/import/",
        "deploy": "/releases/deploy/",
        "new freeze": "/changes/freezes/new/",
        "new standard change": "/changes/standard/new/",
        "groups": "/cis/groups/",
        "group": f"/cis/groups/{story.group.number}/",
        "new group": "/cis/groups/new/",
        "edit group": f"/cis/groups/{story.group.number}/edit/",
        "new product": "/software/new/",
        "new version": "/software/billing/versions/new/",
        "upload": "/software/billing/versions/2.0/upload/",
        "withdraw": "/software/billing/versions/2.0/withdraw/",
        "environments": "/environments/",
        "environment": f"/environments/{story.environment.number}/",
        "new environment": "/environments/new/",
        "images": "/environments/images/",
        "image": f"/environments/images/{story.environment.image.number}/",
        "new image": "/environments/images/new/",
        "mail folder": "/mailbox/",
        "operations": "/operations/",
        "service tokens": "/service-tokens/",
        "style guide": "/styleguide/",
        "resolve": f"/incidents/{story.incidents[0].number}/resolve/",
        "document": f"/problems/{story.problem.number}/document/",
        "pause": f"/rollouts/{story.rollout.number}/pause/",
        "roll back": f"/rollouts/{story.rollout.number}/roll_back/",
    }
