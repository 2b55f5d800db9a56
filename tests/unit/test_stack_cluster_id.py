"""The identity of an embedded broker."""

from __future__ import annotations

import uuid

import pytest

from stack.kafka import new_cluster_id


def test_a_cluster_id_never_looks_like_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter((uuid.UUID(bytes=b"\xf8" + bytes(15)), uuid.UUID(bytes=b"\xfb" + bytes(15)), uuid.UUID(int=1)))
    monkeypatch.setattr("stack.kafka.uuid.uuid4", lambda: next(drawn))
    assert new_cluster_id() == "AAAAAAAAAAAAAAAAAAAAAQ"
