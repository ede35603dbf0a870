"""A front end over an in-memory node, for each test."""

from __future__ import annotations

import pytest

from kvnode.resp.listener import RespServer
from tests.support.fake_service import FakeService
from tests.unit.resp.memory_client import MemoryClient, serve


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
async def server(service: FakeService) -> RespServer:
    return serve(service, service)


@pytest.fixture
async def client(server: RespServer) -> MemoryClient:
    return MemoryClient(server)
