"""A disk below one folder that loses, at a power cut, what was not synced to it.

POSIX promises little: the bytes of a file are there after ``fsync`` of the file, its name after
``fsync`` of its folder, and the folder's own name after ``fsync`` of the folder above. What was not
synced may be there or not, each name and each file by itself, and a file's bytes may be there in
part. The folder is a real one; what would survive is kept beside it and put back after a cut.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

_WATCHED = ("mkdir", "link", "replace", "rename", "unlink", "fsync")

Tree = dict[str, "Tree | bytes"]


class PowerCutError(BaseException):
    """The machine is off: nothing that runs may deal with it."""


class LosingDisk:
    """Watches what is done to a folder, and can cut the power before or after any of it.

    Args:
        root: the folder; it is there already, durably
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.acts = 0
        self._cut_in: int | None = None
        self._files: dict[int, bytes] = {}
        """The synced bytes of files, by inode."""
        self._folders: dict[int, dict[str, int]] = {}
        """The synced names in folders, each with what it names."""
        self._pinned: dict[int, int] = {}
        """Open handles: no inode is given to another file while it is known here."""
        self._begin()

    def close(self) -> None:
        """Let go of all files."""
        for handle in self._pinned.values():
            os.close(handle)
        self._pinned.clear()

    def cut_in(self, acts: int | None) -> None:
        """Cut the power at one of the next acts; ``None`` for not at all."""
        self._cut_in = acts

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Watch everything that this process does below the folder."""
        real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in _WATCHED}
        for name in _WATCHED:
            setattr(os, name, self._watching(name, real[name]))
        try:
            yield
        finally:
            for name, function in real.items():
                setattr(os, name, function)

    def lose(self, chance: Random | None = None) -> None:
        """Put back what survives a power cut; without chance, nothing that was not synced."""
        survivors = self._surviving(self.root, self._inode(self.root), chance)
        self.close()
        shutil.rmtree(self.root)
        self.root.mkdir()
        _put(self.root, survivors)
        self._begin()

    def _begin(self) -> None:
        """Take everything that is there for synced."""
        self._files, self._folders = {}, {}
        for name in (self.root, *self.root.rglob("*")):
            self._sync(name)

    def _watching(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **more: Any) -> Any:
            path = _path(arguments[0])
            if path is None or not path.is_relative_to(self.root):
                return real(*arguments, **more)
            self._count()
            result = None
            if name == "fsync":
                self._sync(path)  # the real disk is none of this disk's business
            else:
                result = real(*arguments, **more)
            self._count()
            return result

        return act

    def _count(self) -> None:
        self.acts += 1
        if self._cut_in is None:
            return
        self._cut_in -= 1
        if self._cut_in < 0:
            raise PowerCutError

    def _sync(self, path: Path) -> None:
        inode = self._inode(path)
        if path.is_dir():
            self._folders[inode] = {entry.name: entry.inode() for entry in os.scandir(path)}
        else:
            self._files[inode] = path.read_bytes()

    def _inode(self, path: Path) -> int:
        handle = os.open(path, os.O_RDONLY)
        inode = os.fstat(handle).st_ino
        if inode in self._pinned:
            os.close(handle)
        else:
            self._pinned[inode] = handle
        return inode

    def _surviving(self, path: Path, inode: int, chance: Random | None) -> Tree:
        """Return what is left of a folder, which may have no name any more."""
        now = {entry.name: entry.inode() for entry in os.scandir(path)} if path.is_dir() else {}
        kept = self._folders.get(inode, {})
        left: Tree = {}
        for name in sorted({*now, *kept}):
            named = kept.get(name)
            if chance is not None and chance.random() < 0.5:  # as likely as not
                named = now.get(name)
            if named is None:
                continue
            where = path / name
            is_there = now.get(name) == named
            if named in self._folders or (is_there and where.is_dir()):
                left[name] = self._surviving(where, named, chance)
            else:
                whole = where.read_bytes() if is_there else b""
                left[name] = self._bytes(named, whole, chance)
        return left

    def _bytes(self, inode: int, whole: bytes, chance: Random | None) -> bytes:
        if inode in self._files:
            return self._files[inode]
        if chance is None:
            return b""
        part = whole[: chance.randint(0, len(whole))]
        return chance.choice([b"", part, part + bytes(len(whole) - len(part)), whole])


def _put(folder: Path, tree: Tree) -> None:
    for name, what in tree.items():
        if isinstance(what, bytes):
            (folder / name).write_bytes(what)
        else:
            (folder / name).mkdir(mode=0o700)
            _put(folder / name, what)


def _path(of: object) -> Path | None:
    """Return the path that an act is about; a handle's is asked of the kernel."""
    if isinstance(of, int):
        if not (stat.S_ISREG(os.fstat(of).st_mode) or stat.S_ISDIR(os.fstat(of).st_mode)):
            return None
        return Path(f"/proc/self/fd/{of}").readlink()
    return Path(os.fsdecode(of)) if isinstance(of, str | bytes | os.PathLike) else None
