"""What holds for every test: no network beyond this machine, and no look into the user's own settings."""

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
    """Tell whether an address stays on this machine: a Unix socket, or a loopback host."""
    if not isinstance(address, tuple):
        return True
    host = str(address[0])
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tiny products only wait for a second thread: tests of the engine took 29 s with two and 5 with one."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


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
    """The blocks that ran as modules and not on the fast path of a decoding step."""
    ran: list[Block] = []
    forward = Block.forward

    def counted(self: Block, *arguments: Any) -> torch.Tensor:
        ran.append(self)
        return forward(self, *arguments)

    monkeypatch.setattr(Block, "forward", counted)
    return ran
