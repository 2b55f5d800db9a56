"""The contract beside the tests that hold it: ``python -m tests.contract.table`` writes docs/contract.md.

Which tests hold a sentence is read from their marks, ``@pytest.mark.contract("3.7", …)``, without running anything; of
a whole file, such as one of a state machine, from ``pytestmark = pytest.mark.contract("3.18")``.
"""

import ast
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SENTENCES = Path(__file__).with_name("sentences.toml")
TABLE = ROOT / "docs" / "contract.md"
_HEAD = """# The contract, sentence by sentence

Each sentence beside the tests that hold it. Made by `python -m tests.contract.table` from the tests' marks; a test
fails when this page is out of date, or when a sentence that was held is held no more. **open** says that nothing holds
the sentence yet.
"""


class Mark(NamedTuple):
    """A test, or a file of tests, that says it holds a sentence."""

    sentence: str
    path: str
    test: str


def sentences() -> dict[str, dict[str, str]]:
    """The sentences by section and id."""
    return tomllib.loads(SENTENCES.read_text("utf-8"))


def marks() -> Iterator[Mark]:
    """The marks of all tests."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        name = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found = [sentence for decorator in node.decorator_list for sentence in _ids(decorator)]
                yield from (Mark(sentence, name, node.name) for sentence in found)
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
                yield from (Mark(sentence, name, path.stem) for sentence in _ids(node.value))


def _ids(decorator: ast.expr) -> list[str]:
    if not isinstance(decorator, ast.Call) or ast.unparse(decorator.func) != "pytest.mark.contract":
        return []
    return [ast.literal_eval(argument) for argument in decorator.args]


def held() -> dict[str, list[Mark]]:
    """The tests that hold each sentence, by id."""
    by_sentence: defaultdict[str, list[Mark]] = defaultdict(list)
    for mark in marks():
        by_sentence[mark.sentence].append(mark)
    return dict(by_sentence)


def page(sections: Mapping[str, Mapping[str, str]], tests: Mapping[str, list[Mark]]) -> str:
    """docs/contract.md."""
    lines = [_HEAD]
    for title, section in sections.items():
        lines += [f"## {title}", "", "| | sentence | held by |", "|---|---|---|"]
        lines += [f"| {name} | {text} | {_cell(tests.get(name, []))} |" for name, text in section.items()]
        lines.append("")
    return "\n".join(lines)


def _cell(tests: list[Mark]) -> str:
    return "<br>".join(f"[`{one.test}`](../{one.path})" for one in tests) or "**open**"


def main() -> int:
    """Writes the page; 1 where a mark names no sentence."""
    tests, sections = held(), sentences()
    unknown = sorted(set(tests) - {name for section in sections.values() for name in section})
    if unknown:
        print(f"no such sentence: {', '.join(unknown)}", file=sys.stderr)
        return 1
    TABLE.write_text(page(sections, tests), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
