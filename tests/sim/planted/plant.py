"""A bug planted on purpose: a few words of one function of the real code, replaced for a while.

A plant says what it replaces in the code's own words, so that it reads like the diff that somebody tired might have
committed. Where the code no longer has these words, ``PlantError`` says so: the plant is then to be written anew.
"""

import __future__

import ast
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType


class PlantError(Exception):
    """The code does not (any longer) have what a plant replaces."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Replaces words in one function. ``target`` is ``module:Class.method``; ``changes`` are (old, new) pairs of source
    text without the indentation of the ``def``; each ``old`` must stand there once."""

    target: str
    changes: tuple[tuple[str, str], ...]

    def function(self) -> FunctionType:
        """The function that is changed. Raises PlantError."""
        module, _, path = self.target.partition(":")
        try:
            found: object = importlib.import_module(module)
            for name in path.split("."):
                found = inspect.getattr_static(found, name)
        except (ImportError, AttributeError) as error:
            raise PlantError(f"{self.target} is gone: {error}") from error
        if isinstance(found, property):
            found = found.fget
        if not isinstance(found, FunctionType):
            raise PlantError(f"{self.target} is no function")
        return found

    def code(self, function: FunctionType) -> CodeType:
        """The changed code of ``function``. Raises PlantError."""
        source = textwrap.dedent(inspect.getsource(function))
        for old, new in self.changes:
            if source.count(old) != 1:
                raise PlantError(f"{self.target} has {source.count(old)} times what should stand there once:\n{old}")
            source = source.replace(old, new)
        tree = ast.parse(source)
        definition = tree.body[0]
        assert isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef)
        definition.decorator_list = []
        namespace = dict(function.__globals__)
        flags = __future__.annotations.compiler_flag
        exec(compile(tree, f"<planted in {self.target}>", "exec", flags, dont_inherit=True), namespace)
        changed: CodeType = namespace[definition.name].__code__
        if changed.co_freevars != function.__code__.co_freevars:
            raise PlantError(f"{self.target} is a closure, whose code cannot be exchanged")
        return changed


def edit(target: str, *changes: tuple[str, str]) -> Edit:
    """An ``Edit`` of one or more changes."""
    return Edit(target, changes)


@dataclass(frozen=True, slots=True)
class Plant:
    """One bug. ``breaks`` says what it does to the product, as a sentence."""

    name: str
    breaks: str
    edits: tuple[Edit, ...]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The bug is in the code of this process until the end of the context. Raises PlantError."""
        changed = [(function := one.function(), one.code(function)) for one in self.edits]
        before = [function.__code__ for function, _ in changed]
        try:
            for function, code in changed:
                function.__code__ = code
            yield
        finally:
            for (function, _), code in zip(changed, before, strict=True):
                function.__code__ = code
