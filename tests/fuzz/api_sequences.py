"""Sequences of requests that follow the document's links, as those who may ask, and after each the same request of
somebody who may not: what was made a moment ago is nobody else's either."""

from __future__ import annotations

import warnings
from collections import Counter
from random import Random
from typing import Any, Final

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis import GenerationMode

from sluicegate.operator import new_key
from tests.api_app import ApiApp
from tests.fuzz.api_cases import check, schema_of

STEPS: Final = 10
STRANGERS: Final = ("nobody", "a revoked key", "an unknown key")


def explore_sequences(examples: int, number: int) -> Counter[str]:
    """Tries ``examples`` sequences, each from a fresh start; returns how often each link was followed to an answer
    below 300. Raises AssertionError or schemathesis' failures, which say how to repeat the sequence."""
    followed: Counter[str] = Counter()
    draw = Random(number)
    broken: list[BaseException] = []
    schema = schema_of(ApiApp())
    schema.config.generation.update(modes=[GenerationMode.POSITIVE])
    schema.config.phases.stateful.inference.algorithms = []  # the links that stand in the document alone

    @hypothesis.seed(number)
    class Sequences(schema.as_state_machine()):  # type: ignore[misc]  # made from the document
        def setup(self) -> None:
            self.api = ApiApp()
            self.asked = 0
            draw.seed(number)  # a sequence that is tried again makes the same keys
            schema.app = self.api.app

        def step(self, input: Any) -> Any:  # noqa: A002  # the framework's name
            output = super().step(input)
            if input.transition is not None and input.is_applied and output.response.status_code < 300:
                followed[input.transition.id] += 1
            return output

        def call(self, case: Any, **_: Any) -> Any:
            self.asked += 1
            is_operators = case.operation.path.startswith("/v1/operator")
            try:
                check(self.api, case, STRANGERS[self.asked % len(STRANGERS)])
                return check(self.api, case, "a writing operator" if is_operators else "a customer")
            except (Exception, BaseExceptionGroup) as error:  # schemathesis groups its failures
                broken.append(error)
                raise

        def validate_response(self, response: Any, case: Any, *_: Any, **__: Any) -> None:
            """``check`` did."""

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setattr(new_key.secrets, "token_hex", lambda size: draw.randbytes(size).hex())
        patch.setattr(new_key.secrets, "token_urlsafe", lambda size: draw.randbytes(size).hex())
        warnings.simplefilter("ignore")  # the tools' own, about data that they could not make
        try:
            Sequences.run(
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=STEPS,
                    deadline=None,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                    phases=[Phase.generate, Phase.shrink],
                )
            )
        except FlakyStrategyDefinition:  # the tools do not always draw alike: no fault where no answer was one
            if broken:
                raise broken[0] from None
    return followed
