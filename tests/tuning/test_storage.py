"""Where studies lie: addresses without their passwords, files that a full disk has cut short."""

import errno
import os
import re

import optuna
import pytest

from normfix_mm.errors import BadInput
from normfix_mm.tuning import storage as storages
from normfix_mm.tuning.storage import Address, open_storage


@pytest.mark.parametrize(
    ("url", "shown", "secrets"),
    [
        ("postgresql://me:s3cret@host/db", "postgresql://me:***@host/db", ["s3cret"]),
        (
            "postgresql+psycopg://me:a%2Fb@h:1/db",
            "postgresql+psycopg://me:***@h:1/db",
            ["a/b", "a%2Fb"],
        ),
        ("mysql+pymysql://me:p@ss:w@host/db", "mysql+pymysql://me:***@host/db", ["p@ss:w"]),
        ("postgresql://host/db?user=me&password=s3cret", "***", ["s3cret"]),
        ("redis://:s3cret@host", "redis://:***@host", ["s3cret"]),
        ("nonsense://me:s3cret@", "nonsense://me:***@", ["s3cret"]),
        ("postgresql://me@host/db", "postgresql://me@host/db", []),
        ("work_dirs/journal.log", "work_dirs/journal.log", []),
    ],
)
def test_a_password_is_never_shown(url, shown, secrets):
    address = Address(url)
    assert shown in address.shown and str(address) == repr(address) == address.shown
    told = address.clean(f"cannot reach {url} with {secrets}")
    assert not any(secret in told or secret in str(address) for secret in secrets)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense://me:s3cret@host/db", "cannot be opened.*nonsense"),
        ("postgresql+psycopg://me:s3cret@127.0.0.1:1/db", "cannot be opened.*(refused|connection)"),
        ("postgresql+absent://me:s3cret@host/db", "cannot be opened|needs a database driver"),
        ("sqlite://", "in memory is seen by no other process"),
        ("sqlite:////proc/none/study.db", "cannot be opened"),
        ("/proc/none/journal.log", "cannot be opened"),
        ("postgresql://me:s3cret@:bad:port/db", "cannot be opened"),
    ],
)
def test_a_storage_out_of_reach_is_one_sentence_without_the_password(url, words):
    with pytest.raises(BadInput) as caught:
        open_storage(Address(url))
    assert re.search(words, str(caught.value)) and "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value) and caught.value.__suppress_context__


def test_a_line_cut_short_is_taken_back_by_the_next_writer(tmp_path):
    """As Optuna reads it, what follows such a line makes the study unreadable for good."""
    path = tmp_path / "journal.log"
    study = optuna.create_study(study_name="s", storage=open_storage(Address(path)))
    study.set_user_attr("first", 1)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":2,"worker_id":"killed in the mid')
    for value in (2, 3):
        again = optuna.load_study(study_name="s", storage=open_storage(Address(path)))
        again.set_user_attr("next", value)
    again = optuna.load_study(study_name="s", storage=open_storage(Address(path)))
    assert again.user_attrs == {"first": 1, "next": 3}
    assert path.read_bytes().startswith(whole) and b"killed" not in path.read_bytes()


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    """What was written of a line before the disk was full is taken back at once."""
    path = tmp_path / "journal.log"
    study = optuna.create_study(study_name="s", storage=open_storage(Address(path)))
    whole = path.read_bytes()

    class Full:
        """A file on a disk with room for ten more bytes."""

        def __init__(self, file):
            self.file, self.room = file, 10

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self.room -= (count := self.file.write(data[: self.room]))
            return count

    real = storages._append
    with monkeypatch.context() as patch:
        patch.setattr(storages, "_append", lambda file, lines: real(Full(file), lines))
        with pytest.raises(OSError, match="No space left"):
            study.set_user_attr("lost", 1)
    assert path.read_bytes() == whole
    study.set_user_attr("kept", 2)
    again = optuna.load_study(study_name="s", storage=open_storage(Address(path)))
    assert again.user_attrs == {"kept": 2}


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 9000])
def test_the_last_whole_line_is_found_however_long_the_rest(tmp_path, size):
    path = tmp_path / "file"
    for head in (b"", b"one\n", b"one\n" + b"two" * 3000 + b"\n"):
        path.write_bytes(head + b"x" * size)
        with open(path, "rb") as file:
            assert storages._end_of_last_line(file) == len(head)


@pytest.mark.parametrize("text", ["x", "A note of mine.\nAnother one", '{"op": 1}\n'])
def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path, text):
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(BadInput, match=r"cannot be opened: this file is no journal of a study"):
        open_storage(Address(path))
    assert path.read_text() == text
