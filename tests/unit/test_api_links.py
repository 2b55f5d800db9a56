"""The links of the OpenAPI document lead somewhere: to what is there, by parameters that it has, with values that are
in the answer."""

from __future__ import annotations

from typing import Any

import pytest

from api.links import LINKS, Link
from tests.api_app import ApiApp

DOCUMENT: dict[str, Any] = ApiApp().app.openapi()


def operation(named: str) -> dict[str, Any]:
    method, path = named.split(" ")
    found: dict[str, Any] = DOCUMENT["paths"][path][method.lower()]
    return found


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema behind its reference, and behind "or null"."""
    while "$ref" in schema or "anyOf" in schema:
        if "anyOf" in schema:
            schema = next(one for one in schema["anyOf"] if one.get("type") != "null")
        else:
            schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def holds(schema: dict[str, Any], pointer: str) -> bool:
    """Whether a JSON pointer leads to something in what has this form."""
    for name in pointer.strip("/").split("/"):
        schema = resolved(schema)
        if name.isdigit():
            schema = schema["items"]
        elif name in schema.get("properties", {}):
            schema = schema["properties"][name]
        else:
            return False
    return True


@pytest.mark.parametrize("link", LINKS, ids=lambda link: f"{link.source} - {link.target}")
def test_a_link_leads_to_what_is_there(link: Link) -> None:
    source, target = operation(link.source), operation(link.target)
    said = {
        status: response["links"][target["operationId"]]
        for status, response in source["responses"].items()
        if status.startswith("2")
    }
    known = {(one["in"], one["name"]) for one in target["parameters"]}
    new = link.target.rpartition("{")[2].rstrip("}") if link.target.startswith("PUT ") else ""  # of the caller's making
    needed = {f"path.{name}" for where, name in known if where == "path" and name != new}
    for status, one in said.items():
        assert needed <= one["parameters"].keys()
        schema = source["responses"][status]["content"]["application/json"]["schema"]
        for name, value in one["parameters"].items():
            assert tuple(name.split(".", 1)) in known
            kind, _, rest = value.partition("#")
            if kind == "$response.body":
                assert holds(schema, rest), value
            else:
                assert value == f"$request.{name}"
                assert ("path", name.removeprefix("path.")) in {(p["in"], p["name"]) for p in source["parameters"]}
