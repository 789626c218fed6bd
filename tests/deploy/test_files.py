"""Files are written whole or not at all, and stay what they were: mode, link, place."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from snnlib.deploy.files import write_bytes
from snnlib.graph.errors import CheckpointError, FileError

posix = pytest.mark.skipif(os.name != "posix", reason="modes and links as POSIX has them")
SUPERUSER = hasattr(os, "geteuid") and os.geteuid() == 0
OLD, NEW = b"old", b"new content"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def old(tmp_path):
    """A file that is there already."""
    path = tmp_path / "x.bin"
    path.write_bytes(OLD)
    return path


def test_a_new_file_in_new_folders(tmp_path):
    path = tmp_path / "a" / "b" / "x.bin"
    assert write_bytes(path, NEW) == path
    assert write_bytes(str(path), b"") == path
    assert path.read_bytes() == b""
    assert list(path.parent.iterdir()) == [path]


@posix
def test_a_new_file_has_the_mode_that_the_user_wants(tmp_path):
    """In a process of its own: the umask belongs to the whole process."""
    masks = (0o000, 0o022, 0o077, 0o177)
    script = (
        "import os, sys; from snnlib.deploy.files import write_bytes\n"
        "for mask in sys.argv[2:]: os.umask(int(mask)); write_bytes(sys.argv[1] + mask, b'')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, f"{tmp_path}/x", *map(str, masks)]
    subprocess.run(command, env=environment, check=True)
    assert [mode(tmp_path / f"x{mask}") for mask in masks] == [0o666 & ~mask for mask in masks]


@posix
@pytest.mark.parametrize("kept", [0o600, 0o640, 0o444, 0o755])
def test_a_file_that_is_there_keeps_its_mode(old, kept):
    old.chmod(kept)
    write_bytes(old, NEW)
    assert mode(old) == kept
    assert old.read_bytes() == NEW


@posix
@pytest.mark.parametrize("relative", [True, False])
def test_a_link_stays_a_link(old, tmp_path, relative):
    """Also one to a link, and one into another folder: the file that it points to is written."""
    (tmp_path / "links").mkdir()
    first = tmp_path / "links" / "first"
    first.symlink_to("../x.bin" if relative else old)
    link = tmp_path / "link"
    link.symlink_to(first)
    old.chmod(0o600)
    assert write_bytes(link, NEW) == link
    assert link.is_symlink()
    assert first.is_symlink()
    assert not old.is_symlink()
    assert (old.read_bytes(), mode(old)) == (NEW, 0o600)
    assert len(list(tmp_path.iterdir())) == 3
    assert len(list(first.parent.iterdir())) == 1


@posix
def test_a_link_to_a_file_that_is_not_there_yet(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("later.bin")
    write_bytes(link, NEW)
    assert link.is_symlink()
    assert (tmp_path / "later.bin").read_bytes() == NEW


def full(*_, **__):
    raise OSError(28, "No space left on device")


class Full:
    """A file on a full disk: it can be opened, and takes a part."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, content):
        self.file.write(content[: len(content) // 2])
        full()


@pytest.mark.parametrize("where", ["write", "replace", "folder"])
@pytest.mark.parametrize("error", [FileError, CheckpointError])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(old, monkeypatch, where, error):
    import builtins

    import snnlib.deploy.files as files

    if where == "write":
        opened = builtins.open
        monkeypatch.setattr(
            files, "open", lambda *args, **kwargs: Full(opened(*args, **kwargs)), raising=False
        )
    elif where == "replace":
        monkeypatch.setattr("os.replace", full)
    else:
        monkeypatch.setattr("pathlib.Path.mkdir", full)
    with pytest.raises(error, match=r"x\.bin cannot be written: No space left.*another folder"):
        write_bytes(old, NEW, error)
    monkeypatch.undo()
    assert old.read_bytes() == OLD
    assert list(old.parent.iterdir()) == [old]


@posix
@pytest.mark.skipif(SUPERUSER, reason="a superuser may write everywhere")
@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_cannot_be_written(old, there):
    path = old if there else old.with_name("other.bin")
    old.parent.chmod(0o555)
    try:
        with pytest.raises(FileError, match="Permission denied"):
            write_bytes(path, NEW)
    finally:
        old.parent.chmod(0o755)
    assert old.read_bytes() == OLD
    assert list(old.parent.iterdir()) == [old]


def test_a_place_that_no_file_can_have(old, tmp_path):
    (tmp_path / "folder").mkdir()
    for place in (old / "below.bin", tmp_path / "folder"):
        with pytest.raises(FileError, match="cannot be written"):
            write_bytes(place, NEW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "x.bin"]


@pytest.mark.skipif(os.name == "nt", reason="Windows does not replace a file that is being read")
def test_two_writers_and_a_reader_see_whole_contents(old):
    """Whoever comes last wins; nobody sees a part, and nothing is left behind."""
    contents = [bytes([value]) * 200_000 for value in (1, 2)]
    failed = []

    def writer(content):
        try:
            for _ in range(30):
                write_bytes(old, content)
        except FileError as error:  # pragma: no cover - shown by the assertion below
            failed.append(error)

    threads = [threading.Thread(target=writer, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert old.read_bytes() in (OLD, *contents)
    assert not failed
    assert old.read_bytes() in contents
    assert list(old.parent.iterdir()) == [old]
