"""A front end over an in-memory node, for each test."""

from __future__ import annotations

import pytest

from kvnode.resp.listener import RespServer
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, serve


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass of the loop may take as long as it likes: what is begun in it must not depend on the
    machine. Tests of slices set their own."""
    monkeypatch.setattr("kvnode.resp.backlog.PASS_SLICE_NS", 1 << 62)
    monkeypatch.setattr("kvnode.resp.dispatch.PASS_SLICE_NS", 1 << 62)
    monkeypatch.setattr("kvnode.resp.dispatch.COSTLY_NS", 1 << 62)
    monkeypatch.setattr("kvnode.resp.passes.FLUSH_SLICE_MS", 1 << 30)
    monkeypatch.setattr("kvnode.resp.passes.READING_SLICE_NS", 1 << 62)


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def server(service: FakeService) -> RespServer:
    return serve(service, service)


@pytest.fixture
async def client(server: RespServer) -> MemoryClient:
    return MemoryClient(server)
