"""The storages that a study can lie in."""

import pytest
from tuning.postgres import server_or_skip


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server, for the whole session."""
    server = server_or_skip()
    yield server
    server.remove()


@pytest.fixture(params=["journal", "sqlite", "postgres"])
def storage(request, tmp_path) -> str:
    """The address of an empty storage of each kind."""
    if request.param == "journal":
        return str(tmp_path / "journal.log")
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'study.db'}"
    return request.getfixturevalue("postgres").url
