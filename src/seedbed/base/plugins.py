"""Plug-in packages: every file is a plug-in, named by the file and found without an import."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Generic, TypeVar, cast

from seedbed.base.arguments import brief
from seedbed.base.errors import UsageError, nearest

T = TypeVar("T")


class PluginPackage(Generic[T]):
    """The plug-ins of a package: `causal.py` of `seedbed.objectives` defines the plug-in `causal`."""

    def __init__(self, package: str, attribute: str) -> None:
        """`attribute` names the plug-in in every file, such as `OBJECTIVE`; errors show it in lower case."""
        self.package, self.attribute = package, attribute

    def names(self) -> list[str]:
        """List the plug-ins, sorted, without importing them."""
        modules = pkgutil.iter_modules(importlib.import_module(self.package).__path__)
        return sorted(module.name for module in modules if module.name[0] != "_")

    def require(self, name: str) -> None:
        """Raise UsageError with the nearest name if no plug-in has this one; nothing is imported."""
        names = self.names()
        if name not in names:
            raise UsageError(f"no {self.attribute.lower()} is named {brief(name)}; {nearest(name, names)}")

    def get(self, name: str) -> T:
        """Import one plug-in; an unknown name raises UsageError with the nearest one."""
        self.require(name)
        return cast(T, getattr(importlib.import_module(f"{self.package}.{name}"), self.attribute))
