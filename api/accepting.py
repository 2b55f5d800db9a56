"""In which form a caller would rather have an answer (RFC 9110, section 12.5.1)."""

import re
from collections.abc import Sequence
from typing import Final

_WEIGHT: Final = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z", re.ASCII)


def preferred(accept: str, offered: Sequence[str]) -> str:
    """The media type of ``offered`` with the greatest weight; of equal ones that which is named most exactly, then
    first. The first offered where none is acceptable, and what cannot be read is as if it were not there."""
    ranges = [found for one in accept.lower().split(",") if (found := _range(one)) is not None]

    def rank(media_type: str) -> tuple[float, int, int]:
        kind = media_type.partition("/")[0]
        matches = [
            (exactness, -place, weight)
            for place, (name, weight) in enumerate(ranges)
            for exactness, range_ in enumerate(("*/*", f"{kind}/*", media_type))
            if name == range_
        ]
        exactness, place, weight = max(matches, default=(0, 0, 0.0))
        return (weight, exactness, place) if weight else (0.0, 0, -len(ranges))

    return max(offered, key=rank)


def _range(text: str) -> tuple[str, float] | None:
    name, *parameters = (one.strip() for one in text.split(";"))
    weight = next((one[2:] for one in parameters if one.startswith("q=")), "1")
    return (name, float(weight)) if _WEIGHT.match(weight) else None
