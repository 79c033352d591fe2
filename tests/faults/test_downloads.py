"""Faults of downloads that the tests of fetching and of archives do not meet."""

import io
import random
import zipfile

import pytest
from servers import Server, entry, ranged, unused_address
from test_fetch import (
    FILE,
    HASTY,
    STEPS,
    ended,
    fetched,
    landed,
    listed,  # noqa: F401 (a fixture)
    process,
    refused,
    workplace,  # noqa: F401
    write_registry,
)


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_that_are_not_there(listed, monkeypatch, name):  # noqa: F811
    """Not taken for a full disk, and the next address is tried."""
    for other in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "/nonexistent/ca.pem")
    address = f"{unused_address().replace('http', 'https')}/{FILE}"
    listed(entry(address))
    assert refused(fetched(), address, "/nonexistent/ca.pem", name)
    with Server(ranged()) as server:
        listed(entry(address, f"{server.url}/{FILE}"))
        fetched()
    assert landed()


@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY"])
def test_a_proxy_that_is_not_there(listed, monkeypatch, name):  # noqa: F811
    monkeypatch.setenv(name, unused_address())
    monkeypatch.setenv("no_proxy", "")
    with Server(ranged()) as server:
        listed(entry(f"{server.url}/{FILE}"))
        error = fetched(patience=HASTY)
        assert refused(
            error, "no connection to the proxy that http_proxy, https_proxy or all_proxy"
        )
        assert server.calls == []
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        fetched()
    assert landed()


def test_killed_at_every_step_of_unpacking(tmp_path):
    """Before each change of the file system; the next fetch leaves the images and nothing else."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as out:
        out.writestr("set/0.jpg", random.Random(0).randbytes(3000))
    write_registry(entry(file="set.zip", content=packed.getvalue()))
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/set.zip").write_bytes(packed.getvalue())
    code, out, err = ended(process(script=STEPS))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) > 12
    for number, line in enumerate(lines):
        assert line == f"{number} .picture.lock picture.sha256 set set/0.jpg"
