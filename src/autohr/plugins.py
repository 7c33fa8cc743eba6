"""Entry points, by which other installed packages add methods, nets, datasets, commands and lists.

A package that has a method of its own names it in its pyproject.toml::

    [project.entry-points."autohr.methods"]
    my_method = "my_package.module:MY_METHOD"

``MY_METHOD`` is a ``Method`` whose ``name`` is "my_method". Nets (group autohr.nets, a ``NetSpec``) and datasets (group
autohr.datasets) are added in the same way. A plugin is imported when its name is first asked for.

A command is a function with the signature of a typer command (group ``autohr.commands``); a table of ``autohr list``
is one that returns its columns and rows (``autohr.lists``). Our laboratory adds its own so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from autohr.errors import AutoHRError

T = TypeVar("T")
OWN = "autohr"


class Table(Mapping[str, T], Generic[T]):
    """The records of this package by name, followed by those that other packages add.

    Every record is a dataclass with the fields ``name``, equal to its key, and ``package``, which says where it came
    from. The entry points are looked up when a name is asked for that is not our own, or all names are.

    Parameters
    ----------
    group
        Name of the entry points' group, such as "autohr.methods".
    own
        The records of this package. Another package's record of the same name is an error.
    """

    def __init__(self, group: str, own: Mapping[str, T]) -> None:
        self.group = group
        self._own = dict(own)
        self._loaded: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name in self._own:
            return self._own[name]
        if name not in self._loaded:
            self._loaded[name] = self._load(self._found[name])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._own, *self._found])

    def __len__(self) -> int:
        return len(self._own) + len(self._found)

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._found

    @cached_property
    def _found(self) -> dict[str, EntryPoint]:
        """The entry points of other packages by name.

        Raises
        ------
        AutoHRError
            Two packages have one of the same name, or one has a name of ours.
        """
        found: dict[str, EntryPoint] = {}
        for one in sorted(entry_points(group=self.group), key=lambda one: one.name):
            if one.name in found and one.value == found[one.name].value:
                continue  # the same package, found twice on the path
            owner = OWN if one.name in self._own else package_of(found[one.name]) if one.name in found else None
            if owner is not None:
                raise AutoHRError(
                    f"{package_of(one)} adds {one.name!r} to {self.group}, a name that {owner} has already. "
                    "Uninstall it, or rename its entry point."
                )
            found[one.name] = one
        return found

    def _load(self, one: EntryPoint) -> T:
        where = f"{one.name!r} of {package_of(one)} ({self.group}: {one.value})"
        try:
            record: Any = one.load()
        except Exception as error:  # whatever another package's import raises
            raise AutoHRError(f"{where} cannot be loaded: {error}. Repair or uninstall it.") from error
        kind = type(next(iter(self._own.values())))
        if not isinstance(record, kind) or getattr(record, "name", None) != one.name:
            raise AutoHRError(f"{where} is not a {kind.__name__} of that name. Repair or uninstall it.")
        changed: T = dataclasses.replace(record, package=package_of(one))  # type: ignore[type-var]
        return changed


def find_plugins(group: str) -> dict[str, EntryPoint]:
    """Return name -> entry point of a group, none of them loaded. A name of ours cannot be taken by another package."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: (package_of(entry) != OWN, entry.name)):
        found.setdefault(entry.name, entry)
    return found


def package_of(entry: EntryPoint) -> str:
    """Return name and version of the package that an entry point belongs to, ``OWN`` alone if it is this one."""
    if entry.dist is None:
        return "an unknown package"
    return OWN if entry.dist.name == OWN else f"{entry.dist.name} {entry.dist.version}"
