"""The JSON Schemas and the AsyncAPI document say what the models say."""

import json
from pathlib import Path
from typing import Any

import pytest

from sluicegate_schemas import generate, topics


def test_the_generated_files_are_up_to_date() -> None:
    assert generate.differences() == [], "run python -m sluicegate_schemas.generate"


def test_a_changed_missing_or_left_over_file_is_noticed_and_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--folder", str(tmp_path)]
    assert generate.main(arguments) == 0
    assert generate.main([*arguments, "--check"]) == 0
    (tmp_path / "json" / "decision.json").write_text("{}")
    (tmp_path / "json" / "old.json").write_text("{}")
    (tmp_path / "asyncapi.json").unlink()
    assert generate.main([*arguments, "--check"]) == 1
    stale = ["asyncapi.json", "json/decision.json", "json/old.json"]
    assert [line.split(" ")[0] for line in capsys.readouterr().err.splitlines()] == stale
    assert generate.main(arguments) == 0
    assert generate.differences(tmp_path) == []


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for child in node.values() for found in references(child)]
    if isinstance(node, list):
        return [found for child in node for found in references(child)]
    return []


@pytest.mark.parametrize("path", sorted(generate.files()))
def test_every_reference_leads_somewhere(path: str) -> None:
    document = json.loads(generate.files()[path])
    for reference in references(document):
        node = document
        assert reference.startswith("#/")
        for name in reference[2:].split("/"):
            node = node[name]


def test_every_topic_is_described_and_every_record_is_on_a_topic() -> None:
    document = json.loads(generate.files()["asyncapi.json"])
    assert document["channels"].keys() == {topic.name for topic in topics.TOPICS} == generate.MESSAGES.keys()
    described = {name for names in generate.MESSAGES.values() for name in names}
    assert described == (generate.JSON_RECORDS.keys() | generate.ARRAY_RECORDS.keys()) - {"error_body", "webhook_body"}
