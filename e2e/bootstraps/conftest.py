import pytest

import clients
import outcome


@pytest.fixture
def run(tmp_path):
    """Runs a case under one client; answers what is compared."""

    def run(language, client, case):
        folder = tmp_path / client / "task"
        folder.mkdir(parents=True)
        return outcome.plain(clients.run(language, client, case, folder), folder)

    return run


@pytest.fixture
def same(run):
    """Runs a case under both clients: they must not differ."""

    def same(language, case):
        aws, hearth = run(language, "aws", case), run(language, "hearth", case)
        assert hearth == aws

    return same
