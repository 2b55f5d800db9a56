"""Looks at a catalogue file before it is published: what can be used and yet may not be meant. Pure."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, get_args

from sluicegate_schemas.bounds import Record
from sluicegate_schemas.catalogue import Catalogue, Plan, RateCardEntry, Tier
from sluicegate_schemas.files import read_catalogue
from sluicegate_schemas.toml_file import Path, TomlFile, field_of
from sluicegate_schemas.usage import ResourceName

_RESOURCES: Final = get_args(ResourceName)
_RISING: Final[tuple[Tier, ...]] = ("free", "pro", "team")
"""Each is expected to give at least what the one before gives; enterprise is custom."""
_OPEN_ENDED: Final = ("concurrency", "objects_per_batch", "quotas")
"""Limits of a plan that are none where nothing is said."""


class Remark(Record):
    """What may not be meant in a catalogue file that can be published: at ``field``, its path, on ``line``."""

    field: str
    line: int | None
    sentence: str


def check_catalogue(text: str) -> tuple[Catalogue, list[Remark]]:
    """The catalogue that the TOML ``text`` holds, and what is to be said of it. Raises FileError where it cannot be
    used."""
    catalogue, file = read_catalogue(text)
    said = [*_plans(catalogue, file), *_operations(catalogue), *_limits(catalogue)]
    return catalogue, [Remark(field=field_of(path), line=file.line(path), sentence=sentence) for path, sentence in said]


_Said = Iterator[tuple[Path, str]]


def _plans(catalogue: Catalogue, file: TomlFile) -> _Said:
    for tier, plan in catalogue.plans.items():
        given = file.content["plans"][tier]
        for name in _OPEN_ENDED:
            if name not in given:
                yield ("plans", tier), f'{name} is not given, so it has no limit: write "unlimited" if that is meant'
        unnamed = [name for name in _RESOURCES if name not in plan.quotas]
        if "quotas" in given and unnamed:
            yield ("plans", tier, "quotas"), f"{', '.join(unnamed)} not named, so without a limit"
        rates = plan.rates
        if rates is not None and rates.burst < rates.requests_per_second:
            yield ("plans", tier, "rates"), "burst is below requests_per_second: no whole second of them passes at once"
    for lower, higher in pairwise(_RISING):
        for path, sentence in _falling(catalogue.plans[lower], catalogue.plans[higher]):
            yield ("plans", higher, *path), f"{sentence} than {lower} has"


def _falling(lower: Plan, higher: Plan) -> _Said:
    """What the higher plan has less of."""
    values: list[tuple[Path, int | None, int | None]] = [
        (("credits_per_month",), lower.credits_micro_per_month, higher.credits_micro_per_month),
        (("concurrency",), lower.concurrency, higher.concurrency),
        (("objects_per_batch",), lower.objects_per_batch, higher.objects_per_batch),
    ]
    values += [(("quotas", name), lower.quotas.get(name), higher.quotas.get(name)) for name in _RESOURCES]
    if higher.rates is not None:
        for name in type(higher.rates).model_fields:
            values.append((("rates", name), getattr(lower.rates, name, None), getattr(higher.rates, name)))
    for path, low, high in values:
        if high is not None and (low is None or high < low):
            yield path, "is less"


def _operations(catalogue: Catalogue) -> _Said:
    for name, entry in catalogue.operations.items():
        if _has_no_worst_case(entry):
            sentence = "has no largest price: without credits_reserved a gate sets nothing aside for it"
            yield ("operations", name), sentence
    creating = {entry.creates for entry in catalogue.operations.values()}
    for resource in _RESOURCES:
        limited = [tier for tier, plan in catalogue.plans.items() if plan.quotas.get(resource) is not None]
        if limited and resource not in creating:
            yield (
                ("plans", limited[0], "quotas", resource),
                "no operation creates it, so that its quota never closes anything",
            )


def _has_no_worst_case(entry: RateCardEntry) -> bool:
    price = entry.price
    return (
        price.kind == "per_unit"
        and price.quantity != "requests"
        and price.credits_micro > 0
        and entry.credits_micro_reserved is None
    )


def _limits(catalogue: Catalogue) -> _Said:
    for at, limit in enumerate(catalogue.operation_limits):
        if limit.operation not in catalogue.operations:
            yield ("operation_limits", at, "operation"), f"the catalogue has no operation {limit.operation}"
    if not catalogue.alert_rules:
        yield ("alert_rules",), "there are none: nobody is told of anything"
