"""What migrations of the portal do besides Django's own operations."""

from typing import Any

from django.db import models
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState


class AddIndexes(Operation):
    """Several indexes on one model. Each `AddIndex` for itself would make every related model anew, for seconds."""

    reversible = True

    def __init__(self, model_name: str, indexes: list[models.Index]) -> None:
        self.model_name = model_name
        self.indexes = indexes

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return self.__class__.__qualname__, [], {"model_name": self.model_name, "indexes": self.indexes}

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        options = state.models[app_label, self.model_name].options
        options["indexes"] = [*options.get("indexes", ()), *(index.clone() for index in self.indexes)]
        state.reload_model(app_label, self.model_name, delay=True)

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            for index in self.indexes:
                schema_editor.add_index(model, index)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            for index in self.indexes:
                schema_editor.remove_index(model, index)

    def describe(self) -> str:
        return f"Create {len(self.indexes)} indexes on {self.model_name}"
