"""Writes the JSON Schemas of all records and the AsyncAPI document of all topics from the models.

``python -m sluicegate_schemas.generate`` writes ``json/*.json`` and ``asyncapi.json`` beside the package;
``--check`` writes nothing and exits with 1 if a file is not what the models say.
"""

import argparse
import inspect
import json
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from . import accounts, alerts, catalogue, deliveries, envelope, http, outputs, state, topics, usage

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
FOLDER: Final = Path(__file__).resolve().parent.parent
ASYNCAPI_NAME: Final = "asyncapi.json"

JSON_RECORDS: Final[dict[str, TypeAdapter[Any] | type[BaseModel]]] = {
    "usage_event": usage.UsageEvent,
    "cloud_event": usage.CloudEvent,
    "account_command": accounts.ACCOUNT_COMMAND,
    "catalogue_record": catalogue.CatalogueRecord,
    "entitlement": outputs.ENTITLEMENT,
    "decision": outputs.Decision,
    "balance": outputs.Balance,
    "reject": outputs.Reject,
    "lease": outputs.Lease,
    "alert_audit_drift": alerts.AuditDrift,
    "alert_usage": alerts.UsageAlert,
    "trail_entry": outputs.TrailEntry,
    "delivery": deliveries.Delivery,
    "delivery_position": deliveries.AlertsPosition,
    "delivery_claim": deliveries.DispatcherClaim,
    "error_body": http.ErrorBody,
    "webhook_body": deliveries.WebhookBody,
}
ARRAY_RECORDS: Final[dict[str, type[msgspec.Struct]]] = {
    "usage_envelope": envelope.WireEnvelope,
    "usage_forward": envelope.WireForward,
    "usage_gauge": envelope.WireGauge,
    "usage_lease_request": envelope.WireLeaseRequest,
    "state_header": state.Header,
    "state_claim": state.Claim,
    "state_rollup_cell": state.RollupCell,
}
MESSAGES: Final[dict[str, tuple[str, ...]]] = {
    topics.USAGE.name: (
        "usage_event",
        "cloud_event",
        "usage_envelope",
        "usage_forward",
        "usage_gauge",
        "usage_lease_request",
    ),
    topics.ACCOUNTS.name: ("account_command",),
    topics.CATALOG.name: ("catalogue_record",),
    topics.STATE.name: ("state_header", "state_claim", "state_rollup_cell"),
    topics.ENTITLEMENTS.name: ("entitlement",),
    topics.DECISIONS.name: ("decision", "lease"),
    topics.BALANCES.name: ("balance",),
    topics.ALERTS.name: ("alert_audit_drift", "alert_usage"),
    topics.REJECTS.name: ("reject",),
    topics.TRAIL.name: ("trail_entry",),
    topics.DELIVERIES.name: ("delivery", "delivery_position", "delivery_claim"),
}
"""The records of each topic."""


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema (2020-12) of each record by name. MessagePack records are arrays; their positions are fields."""
    documents: dict[str, dict[str, Any]] = {}
    for name, record in JSON_RECORDS.items():
        mode: JsonSchemaMode = "validation"
        content = (
            record.json_schema(mode=mode) if isinstance(record, TypeAdapter) else record.model_json_schema(mode=mode)
        )
        documents[name] = {"$schema": DIALECT, "title": name, **content}
    for name, struct in ARRAY_RECORDS.items():
        (reference,), definitions = msgspec.json.schema_components((struct,), ref_template="#/$defs/{name}")
        for definition in definitions.values():
            definition.update(_positions(definition), description=inspect.cleandoc(definition.get("description", "")))
        documents[name] = {"$schema": DIALECT, "title": name, **reference, "$defs": definitions}
    return documents


def _positions(definition: dict[str, Any]) -> dict[str, Any]:
    """The names of an array's positions: msgspec leaves them out of its schema."""
    structs: dict[str, type[msgspec.Struct]] = {
        struct.__name__: struct
        for module in (envelope, state)
        for struct in vars(module).values()
        if isinstance(struct, type) and issubclass(struct, msgspec.Struct)
    }
    struct = structs.get(definition.get("title", ""))
    if struct is None or "prefixItems" not in definition:
        return {}
    items = [
        {"title": name, **item} for name, item in zip(struct.__struct_fields__, definition["prefixItems"], strict=True)
    ]
    return {"prefixItems": items}


def asyncapi(documents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The AsyncAPI 3.0 document of all topics, with the schemas of ``documents`` inside."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for topic in topics.TOPICS:
        names = MESSAGES[topic.name]
        channels[topic.name] = {
            "address": f"{topics.PREFIX_DEFAULT}{topic.name}",
            "description": f"Record key: {topic.key}.",
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
            "bindings": {
                "kafka": {
                    "x-partitions": topic.partitions,
                    "x-settings": {**topics.SETTINGS_ALL, **topic.settings},
                    "bindingVersion": "0.5.0",
                }
            },
        }
        operations[f"{_verb(topic)}_{topic.name}"] = {
            "action": _verb(topic),
            "channel": {"$ref": f"#/channels/{topic.name}"},
        }
    used = sorted({name for names in MESSAGES.values() for name in names})
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Sluicegate",
            "version": "1",
            "description": "The topics of Sluicegate, as the workers see them: what they receive and what they send.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {name: _message(name) for name in used},
            "schemas": {name: _inlined(name, documents[name]) for name in used},
        },
    }


def _verb(topic: topics.Topic) -> str:
    return "receive" if topic in (topics.USAGE, topics.ACCOUNTS, topics.CATALOG) else "send"


def _message(name: str) -> dict[str, Any]:
    message: dict[str, Any] = {"name": name, "payload": {"$ref": f"#/components/schemas/{name}"}}
    if name in ARRAY_RECORDS:
        message["contentType"] = "application/msgpack"
    if name.startswith("state_"):
        message["summary"] = f"After {state.EPOCH_BYTES} bytes of the writer's epoch, big-endian."
    return message


def _inlined(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """``document`` as a component: its references point to where it stands now."""
    text = json.dumps({key: value for key, value in document.items() if key != "$schema"})
    inlined: dict[str, Any] = json.loads(text.replace('"#/$defs/', f'"#/components/schemas/{name}/$defs/'))
    return inlined


def files() -> dict[str, str]:
    """The text of each generated file by its path below ``FOLDER``."""
    documents = schemas()
    contents = {f"json/{name}.json": document for name, document in documents.items()}
    contents[ASYNCAPI_NAME] = asyncapi(documents)
    return {
        path: json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        for path, content in contents.items()
    }


def differences(folder: Path = FOLDER) -> list[str]:
    """The generated files below ``folder`` that are missing, changed, or left over."""
    wanted = files()
    present = {path.relative_to(folder).as_posix() for path in folder.glob("json/*.json")}
    changed = [
        path
        for path, text in wanted.items()
        if not (folder / path).is_file() or (folder / path).read_text(encoding="utf-8") != text
    ]
    return sorted({*changed, *(present - wanted.keys())})


def main(arguments: list[str] | None = None) -> int:
    """Writes or checks the files; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m sluicegate_schemas.generate", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is out of date")
    in_checkout = (FOLDER.parent / "pyproject.toml").is_file()
    parser.add_argument(
        "--folder",
        type=Path,
        default=FOLDER,
        required=not in_checkout,
        help="where the files stand (default: beside the package, in a checkout)",
    )
    options = parser.parse_args(arguments)
    folder: Path = options.folder
    stale = differences(folder)
    if options.check:
        for path in stale:
            sys.stderr.write(f"{path} is out of date: run python -m sluicegate_schemas.generate\n")
        return 1 if stale else 0
    wanted = files()
    for path in stale:
        if path in wanted:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(wanted[path], encoding="utf-8")
        else:
            (folder / path).unlink()
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
