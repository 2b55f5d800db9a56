"""Loads the table of who may do what into the broker: ``python -m streams.access deploy/kafka/acls.tsv``.

Run once as the broker's administrator before anybody else connects. Adding a rule that stands already changes nothing.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.admin import CreateAclsRequest

from sluicegate.brokers import Brokers

_RESOURCES = {"topic": 2, "group": 3, "cluster": 4}
_PATTERNS = {"literal": 3, "prefixed": 4}
_OPERATIONS = {
    "Read": 3,
    "Write": 4,
    "Create": 5,
    "Describe": 8,
    "DescribeConfigs": 10,
    "IdempotentWrite": 12,
}
_ALLOW = 3
_CLUSTER_NAME = "kafka-cluster"


class Rule(NamedTuple):
    """``principal`` may do ``operation`` on the ``resource`` called ``name`` (or beginning with it: ``prefixed``)."""

    principal: str
    operation: str
    resource: str
    name: str
    pattern: str


def read_rules(text: str) -> list[Rule]:
    """The rules of a tab-separated table. Raises ValueError, naming the line, for what is none."""
    rules = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) != len(Rule._fields):
            raise ValueError(
                f"line {number}: {len(Rule._fields)} fields separated by tabs are needed, not {len(fields)}"
            )
        rule = Rule(*fields)
        for value, known, what in (
            (rule.operation, _OPERATIONS, "operation"),
            (rule.resource, _RESOURCES, "resource"),
            (rule.pattern, _PATTERNS, "pattern"),
        ):
            if value not in known:
                raise ValueError(f"line {number}: {what} {value!r} is none of {', '.join(known)}")
        rules.append(rule)
    return rules


async def load_rules(brokers: Brokers, rules: Sequence[Rule]) -> None:
    """Adds ``rules`` to the broker. Raises KafkaError for the first that it refuses; those before it stand."""
    admin = AIOKafkaAdminClient(**brokers.options())
    await admin.start()
    try:
        for rule in rules:
            request = CreateAclsRequest(
                resource_type=_RESOURCES[rule.resource],
                resource_name=_CLUSTER_NAME if rule.resource == "cluster" else rule.name,
                resource_pattern_type_filter=_PATTERNS[rule.pattern],
                principal=f"User:{rule.principal}",
                host="*",
                operation=_OPERATIONS[rule.operation],
                permission_type=_ALLOW,
            )
            # aiokafka has the request but no method for it
            response = await admin._send_request(request)
            for code, message in response.creation_responses:
                if code:
                    raise for_code(code)(f"{' '.join(rule)}: {message}")
    finally:
        await admin.close()


def main() -> int:
    """Command line entry; exit status 1 with one sentence where the table or the broker says no."""
    parser = argparse.ArgumentParser(prog="python -m streams.access", description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="tab-separated: principal, operation, resource, name, pattern")
    path: Path = parser.parse_args().table
    try:
        rules = read_rules(path.read_text("utf-8"))
        asyncio.run(load_rules(Brokers.from_environment(), rules))
    except (OSError, ValueError, KafkaError) as error:
        print(f"The access rules of {path} were not all loaded: {error}. Mend that and run it again.", file=sys.stderr)
        return 1
    print(f"{len(rules)} access rules stand.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
