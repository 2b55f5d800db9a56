"""What is contained of others is what its manifest says, byte by byte, with its licence."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
VENDOR = ROOT / "api/dashboard/static/vendor"
STATIC = VENDOR.parent
FORBIDDEN = ("http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")


def _sha256_of(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_each_vendored_library_is_its_published_version_unchanged_and_has_its_licence() -> None:
    manifest = json.loads((VENDOR / "manifest.json").read_text("utf-8"))
    assert {path.name for path in VENDOR.iterdir()} == {"manifest.json", *manifest}
    for name, library in manifest.items():
        assert _sha256_of(VENDOR / name) == library["sha256"]
        assert "LICENSE" in library["sha256"]
        assert library["version"] in (VENDOR / name / "uPlot.esm.js").read_text("utf-8")


def test_the_dashboards_own_files_are_short_reach_no_other_host_and_make_no_markup_out_of_text() -> None:
    own = [path for path in STATIC.rglob("*") if path.is_file() and VENDOR not in path.parents]
    assert len(own) > 20
    for path in own:
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "").replace(
            "https://html.spec.whatwg.org/", ""
        )  # fmt: skip
        assert text.count("\n") <= 400, path
        for forbidden in (
            "http://",
            "https://",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
        ):
            assert forbidden not in text, (path, forbidden)
