"""No request, made of the OpenAPI document or against it, gets a 5xx, an answer that breaks the document, or a byte of
another tenant. ``python -m tests.fuzz.api --for 600`` looks longer."""

from __future__ import annotations

import pytest

from tests.api_app import ApiApp
from tests.fuzz.api_cases import explore, operations, schema_of
from tests.fuzz.api_sequences import explore_sequences

EXAMPLES = 3
"""Of each operation that fit the document, and as many that do not."""
SEQUENCES = 80
API = ApiApp()
SCHEMA = schema_of(API)


@pytest.mark.contract("4.6")
@pytest.mark.parametrize("operation", operations(SCHEMA), ids=lambda operation: operation.label)
def test_no_request_is_answered_with_a_fault_or_with_what_is_anothers(operation: object) -> None:
    assert explore(API, operation, EXAMPLES, number=1) > 0


@pytest.mark.contract("4.6")
def test_no_sequence_of_requests_is_answered_so_either() -> None:
    followed = explore_sequences(SEQUENCES, number=1)
    assert len(followed) >= 8, followed  # different links
