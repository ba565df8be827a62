"""Fixtures of every test: no network beyond this machine, one thread, none of the user's own settings."""

import ipaddress
import socket
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from tests import masked_models

from seedbed.nn.block import Block


def _is_local(address: Any) -> bool:
    """Return whether an address is on this machine: a Unix socket, or a loopback host."""
    if not isinstance(address, tuple):
        return True
    host = str(address[0])
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """A second thread slows tiny matmuls: tests of the engine took 29 s with two threads and 5 s with one."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep measured figures of the tests apart from the user's."""
    patch = pytest.MonkeyPatch()
    patch.setenv("SEEDBED_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()


@pytest.fixture(autouse=True, scope="session")
def no_network() -> Iterator[None]:
    """Refuse every connection and name look-up that would leave this machine."""
    patch = pytest.MonkeyPatch()
    connect, connect_code, look_up = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def refuse(address: Any) -> None:
        raise PermissionError(f"a test tried to reach {address}; tests have no network")

    def local_connect(self: socket.socket, address: Any) -> None:
        if not _is_local(address):
            refuse(address)
        connect(self, address)

    def local_connect_code(self: socket.socket, address: Any) -> int:
        if not _is_local(address):
            refuse(address)
        return connect_code(self, address)

    def local_look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        if host is not None and not _is_local((host,)) and host != socket.gethostname():
            refuse(host)
        return look_up(host, *arguments, **options)

    patch.setattr(socket.socket, "connect", local_connect)
    patch.setattr(socket.socket, "connect_ex", local_connect_code)
    patch.setattr(socket, "getaddrinfo", local_look_up)
    patch.setenv("HF_HUB_OFFLINE", "1")
    yield
    patch.undo()


@pytest.fixture(scope="session")
def masked() -> ModuleType:
    """The module `masked_models.py` beside this file."""
    return masked_models


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Block]:
    """The blocks that ran as modules, not on the fast path of a decoding step."""
    ran: list[Block] = []
    forward = Block.forward

    def counted(self: Block, *arguments: Any) -> torch.Tensor:
        ran.append(self)
        return forward(self, *arguments)

    monkeypatch.setattr(Block, "forward", counted)
    return ran
