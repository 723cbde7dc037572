"""One idiom for everything that can be plugged in: a name maps to ``"module:attribute"``, imported on use."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Generic, TypeVar

from kb.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """A lazily imported table of plug-ins, e.g. ``SOURCES["pubchem"]``.

    A new plug-in is one file and one line in the mapping that the registry is made with.
    """

    def __init__(self, noun: str, entries: Mapping[str, str]) -> None:
        self.noun = noun
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> T:
        """The object registered under ``name``; raises UnknownName, which offers the nearest name."""
        if name not in self._entries:
            close = difflib.get_close_matches(name, self._entries, n=1, cutoff=0.4)
            known = ", ".join(sorted(self._entries))
            meant = f"did you mean {close[0]!r}? " if close else ""
            raise UnknownName(f"unknown {self.noun} {name!r}", hint=f"{meant}known: {known}")
        module, _, attribute = self._entries[name].partition(":")
        plugin: T = getattr(import_module(module), attribute)
        return plugin

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries
