"""Where a study lies: a journal file, SQLite, or a database that many machines reach.

An address is what Optuna takes (``sqlite:///FILE``, ``postgresql+psycopg://user:password@host/db``,
``mysql+pymysql://…``) or the name of a journal file. Its password is never printed or stored.

Two of Optuna's storages lose what this room promises when processes die or share them, so:

- SQLite: Optuna reads a trial's state and writes it in one transaction, but Python's driver begins
  that transaction at the write, so two processes can take one trial. Here it begins at the read.
- Journal: a line that a full disk cut short would make every later line unreadable. Here it is
  taken back, by the writer or by the next one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote

from normfix_mm.errors import BadInput, one_line

PATIENCE = 600  # seconds for which a storage may be out of reach
WAIT = 60  # seconds that SQLite waits for another process
BEGIN = b'{"op_code":'  # of each line of a journal
LOCK = 10  # seconds after which a journal's lock is taken to be of a process that was killed


class Address:
    """The address of a storage.

    Attributes:
        url: as given, with the password; for opening only.
        shown: for people: the password is ***.
    """

    def __init__(self, url: str | os.PathLike) -> None:
        self.url = os.fspath(url)
        self.is_journal = "://" not in self.url
        found = re.match(r"[^:/]+://[^:/@]*:(?P<password>.*)@[^@]*$", self.url, re.DOTALL)
        secrets = [found["password"]] if found else []
        secrets += re.findall(r"[?&;](?:password|passwd|pwd)=([^&;]*)", self.url, re.IGNORECASE)
        forms = {form for s in secrets for form in (s, unquote(s), quote(unquote(s), safe=""))}
        self._secrets = sorted(filter(None, forms), key=len, reverse=True)
        self.shown = self.clean(self.url)

    def clean(self, text: str) -> str:
        """The text without the password."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def __str__(self) -> str:
        return self.shown

    __repr__ = __str__


def open_storage(address: Address):
    """Optuna's storage at this address; a journal file and a SQLite file are made if absent.

    Raises:
        BadInput: it cannot be reached or is no storage, or a package is missing.
    """
    try:
        import optuna
    except ImportError:
        raise BadInput("Tuning needs Optuna: pip install 'normfix-mm[tuning]'.") from None

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        if address.is_journal:
            return optuna.storages.JournalStorage(_journal(address.url))
        return _database(address.url)
    except ImportError as error:
        raise BadInput(
            f"The storage {address} needs a database driver ({one_line(error)}); install it, for "
            "PostgreSQL: pip install 'psycopg[binary]', with postgresql+psycopg:// as address."
        ) from None
    except Exception as error:
        # Whatever the driver says may hold the address; chained errors would be printed with it.
        raise BadInput(
            f"The storage {address} cannot be opened: {address.clean(one_line(error))}"
        ) from None


class Taken(Exception):
    """A trial that this process was running has been given to another one."""


def ask(address: Address, question: Callable):
    """A storage's answer, waited for while the storage is out of reach.

    Raises:
        Taken: the question is about a trial that has ended.
        BadInput: no answer for ten minutes, or the disk is full.
    """
    from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
    from sqlalchemy.exc import SQLAlchemyError

    since = time.monotonic()
    said = False
    while True:
        try:
            return question()
        except UpdateFinishedTrialError:
            raise Taken from None
        except (StorageInternalError, SQLAlchemyError, OSError) as error:
            why = address.clean(one_line(error.__cause__ or error))
            full = isinstance(error, OSError) and error.errno == errno.ENOSPC
            if full or time.monotonic() - since > PATIENCE:
                raise BadInput(
                    f"The storage {address} is out of reach ({why}); nothing that had ended is "
                    "lost: give the same command again when it is back."
                ) from None
            if not said:
                print(f"storage out of reach, trying on: {why}", file=sys.stderr, flush=True)
            said = True
        time.sleep(1)


def _journal(path: str):
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    class WholeLines(JournalFileBackend):
        """A journal that holds whole lines only."""

        def append_logs(self, logs) -> None:
            lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
            self._lock.acquire()
            try:
                # Unbuffered: a buffer would be written once more when the file is closed.
                with open(self._file_path, "rb+", buffering=0) as file:
                    _append(file, lines)
            finally:
                self._lock.release()

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if Path(path).exists() and not _is_journal(path):
        raise ValueError("this file is no journal of a study; name another one.")
    return WholeLines(path, JournalFileSymlinkLock(path, grace_period=LOCK))


def _is_journal(path: str) -> bool:
    """Whether a file begins as a journal does; an empty one, or one cut short there, does too."""
    with open(path, "rb") as file:
        begin = file.read(len(BEGIN))
    return begin == BEGIN[: len(begin)]


def _append(file, lines: bytes) -> None:
    """Write the lines behind the last whole one, all of them or nothing."""
    end = _end_of_last_line(file)
    file.truncate(end)
    file.seek(end)
    try:
        while lines:
            lines = lines[file.write(lines) :]
        os.fsync(file.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(end)
        raise


def _end_of_last_line(file) -> int:
    """The size of an open file without what follows its last newline."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


def _database(url: str):
    import optuna
    import sqlalchemy

    kind = sqlalchemy.make_url(url)
    sqlite = kind.get_backend_name() == "sqlite"
    if sqlite:
        if kind.database in (None, "", ":memory:"):
            raise ValueError("a study in memory is seen by no other process; name a file.")
        Path(kind.database).parent.mkdir(parents=True, exist_ok=True)
    options = dict(connect_args=dict(timeout=WAIT)) if sqlite else dict(pool_pre_ping=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        storage = optuna.storages.RDBStorage(url, engine_kwargs=options)
    if sqlite:
        _begin_at_the_read(storage.engine)
    return storage


def _begin_at_the_read(engine) -> None:
    """Let each transaction lock the file from its start, as SQLAlchemy's manual says for SQLite."""
    from sqlalchemy import event

    engine.dispose()

    @event.listens_for(engine, "connect")
    def _leave_transactions_alone(connection, record) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
