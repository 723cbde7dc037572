"""One idiom for everything that can be plugged in: a name maps to ``"module:attribute"``, imported on use.

A package that is installed beside mkmed adds names by entry points (``importlib.metadata``), and a file by
``--plugin FILE.py:NAME``. A plug-in that cannot be imported is named where it is asked for, and passed over in lists.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, Generic, TypeVar

from kb.errors import PluginError, UnknownName, UsageError
from kb.output import say

T = TypeVar("T")


class Registry(Generic[T]):
    """A lazily imported table of plug-ins, e.g. ``SOURCES["pubchem"]``.

    ``group`` is the entry-point group that other packages add to; of a group that several registries share, those
    names are meant that begin with ``prefix``. mkmed's own names come first.
    """

    def __init__(self, noun: str, entries: Mapping[str, str], *, group: str = "", prefix: str = "") -> None:
        self.noun = noun
        self.group, self.prefix = group, prefix
        self._entries = dict(entries)
        self._added: dict[str, T] = {}
        self._installed: dict[str, EntryPoint] | None = None

    def __getitem__(self, name: str) -> T:
        """The object registered under ``name``.

        Raises UnknownName, which offers the nearest name, or PluginError for one that cannot be imported.
        """
        if name in self._added:
            return self._added[name]
        if name in self._entries:
            module, _, attribute = self._entries[name].partition(":")
            plugin: T = getattr(import_module(module), attribute)
            return plugin
        if name in self._plugins():
            return self._load(name, self._plugins()[name])
        close = difflib.get_close_matches(name, list(self), n=1, cutoff=0.4)
        known = ", ".join(sorted(self))
        meant = f"did you mean {close[0]!r}? " if close else ""
        raise UnknownName(f"unknown {self.noun} {name!r}", hint=f"{meant}known: {known}")

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._entries, *self._plugins(), *self._added)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._added or name in self._plugins()

    def items(self) -> Iterator[tuple[str, T]]:
        """Every name with its object; a plug-in that cannot be imported is told and passed over."""
        for name in self:
            try:
                plugin = self[name]
            except PluginError as error:
                say(f"{error.message}; it is passed over")
                continue
            yield name, plugin

    def add(self, name: str, plugin: T) -> None:
        """Have ``plugin`` known under ``name`` in this process; raises UsageError for a name that is taken."""
        if name in self:
            raise UsageError(f"the {self.noun} {name!r} is there already", hint="give the plug-in another name")
        self._added[name] = plugin

    def _plugins(self) -> dict[str, EntryPoint]:
        """What installed packages add, by name."""
        if self._installed is None:
            found = entry_points(group=self.group) if self.group else ()
            ours = {p.name.removeprefix(self.prefix): p for p in found if p.name.startswith(self.prefix)}
            self._installed = {name: point for name, point in ours.items() if name not in self._entries}
        return self._installed

    def _load(self, name: str, point: EntryPoint) -> T:
        owner = f" of {point.dist.name} {point.dist.version}" if point.dist is not None else ""
        try:
            plugin: T = point.load()
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"the {self.noun} {name!r}{owner} cannot be loaded: {type(error).__name__}: {error}",
                hint="mend or remove that package; mkmed itself works without it",
            ) from error
        return plugin


def load_file(given: str) -> Any:
    """The object that ``FILE.py:NAME`` names; raises UsageError or PluginError."""
    file, _, name = given.rpartition(":")
    path = Path(file)
    if not name.isidentifier() or path.suffix != ".py" or not path.is_file():
        raise UsageError(f"--plugin {given!r} is not a file and a name in it", hint="e.g. --plugin house.py:HouseNotes")
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} cannot be read as Python", hint="check the file")
    module = module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # child processes and dataclasses look a module up by its name
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise PluginError(f"{path} cannot be loaded: {type(error).__name__}: {error}", hint="check the file") from error
    if not hasattr(module, name):
        raise UsageError(f"{path} has no {name}", hint="give the name of a class or object at its top level")
    return getattr(module, name)
