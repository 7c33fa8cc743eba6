"""Commands and lists that installed packages add to the command line by entry points.

A package adds a command by a line of its pyproject.toml; our laboratory does the same::

    [project.entry-points."autohr.commands"]
    my-command = "my_package.my_module:my_function"

The function has the signature of a typer command. The group ``autohr.lists`` holds functions that return the columns
and rows of a table of ``autohr list``. Methods, nets and datasets are added by ``autohr.plugins``.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points


def find_plugins(group: str) -> dict[str, EntryPoint]:
    """Return name -> entry point of a group, none of them loaded. A name of ours cannot be taken by another package."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: (package_of(entry) is not None, entry.name)):
        found.setdefault(entry.name, entry)
    return found


def package_of(entry: EntryPoint) -> str | None:
    """Return name and version of the package that an entry point belongs to, None if it is this one."""
    if entry.dist is None:
        return "an unknown package"
    return None if entry.dist.name == "autohr" else f"{entry.dist.name} {entry.dist.version}"
