"""The registry as shipped, broken registries, and the manifests of what was fetched."""

import hashlib
import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import pytest
from servers import digest, entry, register

from texnet import __main__ as cli
from texnet import registry
from texnet.data import PHOTOS
from texnet.errors import DataError, MissingError, UsageError
from texnet.exemplars import EXEMPLARS

ENTRIES = [e for entries in registry.read_registry().values() for e in entries]
HEADER = ",".join(registry.COLUMNS)
ROW = f"a/b.jpg,https://a.example/b.jpg,{'0' * 64},12,CC0,someone,thing"


# As shipped


def test_every_row_is_well_formed():
    assert len(ENTRIES) > 400
    for each in ENTRIES:
        assert re.fullmatch("[0-9a-f]{64}", each.sha256), each.file
        assert 1000 < each.bytes < 10**11, each.file
        path = PurePosixPath(each.file)
        assert re.fullmatch(r"[A-Za-z0-9_./-]+", each.file) and str(path) == each.file
        assert not path.is_absolute() and not set(path.parts) & {"..", "."}
        assert not any(part.startswith(".") for part in path.parts)
        assert each.licence and each.source, each.file


def test_files_are_unique():
    """Also where case does not count, and once archives are unpacked."""
    files = [each.file.lower() for each in ENTRIES]
    assert len(files) == len(set(files))
    places = {file.partition(".")[0] if file.endswith(registry.ARCHIVES) else file
              for file in files}  # fmt: skip
    assert len(places) == len(files)
    for one in places:
        assert not any(other.startswith(f"{one}/") for other in places)


def test_checksums_are_unique_within_a_name():
    for name, entries in registry.read_registry().items():
        assert len({each.sha256 for each in entries}) == len(entries), name


def test_names():
    """Whoever names an image means one thing."""
    names = set(registry.read_registry())
    assert all(re.fullmatch("[a-z][a-z0-9_]*", name) for name in names)
    assert not names & set(PHOTOS) and not names & set(EXEMPLARS)
    assert set(registry.registered()) == names - {"vgg19_lite"}


def test_manifests_and_files_do_not_meet():
    names = {f"{name}{registry.MANIFEST}" for name in registry.registered()}
    assert not names & {each.file for each in ENTRIES}


def test_addresses_are_public_and_pinned():
    for each in ENTRIES:
        assert len(set(each.urls)) == len(each.urls)
        for url in each.urls:
            parts = urlsplit(url)
            assert parts.scheme in ("http", "https") and parts.hostname and not parts.query, url
            assert not parts.fragment and parts.username is None
            if "githubusercontent.com" in parts.hostname or parts.hostname == "github.com":
                assert re.search("/[0-9a-f]{40}/", parts.path) and parts.scheme == "https", url


def test_the_file_in_the_repository():
    (lite,) = registry.read_registry()["vgg19_lite"]
    content = (registry.REGISTRY.parent / lite.file).read_bytes()
    assert (digest(content), len(content)) == (lite.sha256, lite.bytes)


# Broken registries


def broken(tmp_path, *lines):
    path = tmp_path / "registry.csv"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError) as caught:
        registry.read_registry(path)
    assert str(caught.value).startswith(f"{path}") and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("column", registry.COLUMNS)
def test_column_is_missing(tmp_path, column):
    at = registry.COLUMNS.index(column)
    lines = [",".join(line.split(",")[:at] + line.split(",")[at + 1 :]) for line in (HEADER, ROW)]
    assert "its columns are not file, urls, sha256" in broken(tmp_path, *lines)


@pytest.mark.parametrize("lines", [[""], [ROW], [HEADER.upper(), ROW], [f"{HEADER},more", ROW]])
def test_other_columns(tmp_path, lines):
    assert "its columns are not" in broken(tmp_path, *lines)


@pytest.mark.parametrize(
    ("column", "value"),
    [("file", value) for value in
     ("", ".", "..", "../a.jpg", "a/../../b", "/a.jpg", "a\\b.jpg", "\x1b[2J.jpg")]
    + [("sha256", value) for value in
       ("", "0", "0" * 63, "0" * 65, "g" * 64, "A" * 64, " " + "0" * 63, "0" * 32, "-")]
    + [("bytes", value) for value in
       ("", "0", "-1", "1.5", "1e6", "many", "²", "0x10", " 12", "12 ", "1_000", "٣")]
    + [("for", value) for value in ("", "A", "a b", "../a", "a/b", "1a", "a.b", "ä")],
)  # fmt: skip
def test_bad_value(tmp_path, column, value):
    """The line and the column are named, and what was found there."""
    values = dict(zip(registry.COLUMNS, ROW.split(","), strict=True)) | {column: value}
    told = broken(tmp_path, HEADER, ROW, ",".join(values.values()))
    assert f" line 3: {column} '{value}' is no " in told and told.endswith("; correct it")


@pytest.mark.parametrize(
    "row", ["a.jpg", "a.jpg,,", ROW.rpartition(",")[0], f"{ROW},more", f"{ROW},", "x" * 100]
)
def test_row_of_another_length(tmp_path, row):
    assert "line 3: has not 7 columns" in broken(tmp_path, HEADER, ROW, row)


def test_no_registry(tmp_path):
    with pytest.raises(MissingError, match=r"none\.csv: no such file; expected the registry"):
        registry.read_registry(tmp_path / "none.csv")


def test_a_good_one(tmp_path):
    path = tmp_path / "registry.csv"
    row = ROW.replace("https://a.example/b.jpg", "https://a.example/b  http://b.example/c")
    path.write_text(f'{HEADER}\n{row}\nc.zip,,{"1" * 64},5,"a, b",x,thing\n\n')
    ((name, (first, second)),) = registry.read_registry(path).items()
    assert name == "thing" and first.urls == ("https://a.example/b", "http://b.example/c")
    assert (first.bytes, first.archive) == (12, False)
    assert (second.urls, second.archive, second.licence) == ((), True, "a, b")


# Where things are


def test_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mirrors = ["http://a.example/", "https://b.example/x//", "file:///c d", "/e f#g", "h"]
    assert list(registry.addresses(entry("http://z.example/q", file="i/j"), mirrors)) == [
        "http://a.example/i/j",
        "https://b.example/x/i/j",
        "file:///c d/i/j",
        "file:///e%20f%23g/i/j",
        f"{(tmp_path / 'h').as_uri()}/i/j",
        "http://z.example/q",
    ]


@pytest.mark.parametrize(("value", "cache"), [(None, "resources"), ("", "resources"), ("x", "x")])
def test_cache(monkeypatch, value, cache):
    monkeypatch.delenv("TEXNET_CACHE", raising=False)
    if value is not None:
        monkeypatch.setenv("TEXNET_CACHE", value)
    assert str(registry.cache()) == cache
    assert str(registry.manifest("a")) == f"{cache}/a.sha256"


# Manifests


@pytest.fixture
def picture(tmp_path, monkeypatch):
    """A fetched picture, as far as its manifest says."""
    monkeypatch.setenv("TEXNET_CACHE", str(tmp_path))
    register(monkeypatch, entry(file="a/b.jpg", content=b"picture"))
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.jpg").write_bytes(b"picture")
    (tmp_path / "picture.sha256").write_text(f"{digest(b'picture')}  a/b.jpg\n")
    return tmp_path / "a/b.jpg"


def test_manifest(picture, tmp_path):
    path = registry.manifest("picture")
    assert registry.read_manifest(path) == {picture: hashlib.sha256(b"picture").hexdigest()}
    assert registry.image("picture") == picture
    assert registry.complete("picture") == ["picture"]
    with path.open("a") as out:
        out.write(f"{digest(b'')}  c d  e.jpg\n")
    assert list(registry.read_manifest(path)) == [picture, tmp_path / "c d  e.jpg"]
    with pytest.raises(UsageError, match="'picture' is a set of 2 images"):
        registry.image("picture")


@pytest.mark.parametrize(
    "line",
    ["", "nonsense", "0" * 64, f"{'0' * 64}  ", f"{'0' * 64} a.jpg", f"{'0' * 63}  a.jpg",
     f"{'G' * 64}  a.jpg", f"{'0' * 64}  ../a.jpg", f"{'0' * 64}  a/../../b.jpg",
     f"{'0' * 64}  /etc/passwd", f"{'0' * 64}  ..", f"{'0' * 64}  .", f"{'0' * 64}  a\\b.jpg",
     f"{'0' * 64} *a.jpg", f" {'0' * 64}  a.jpg", "\x00" * 66],
)  # fmt: skip
def test_bad_manifest(picture, line):
    path = registry.manifest("picture")
    good = path.read_text()
    path.write_text(f"{good}{line}\n{good}")
    with pytest.raises(DataError) as caught:
        registry.read_manifest(path)
    assert str(caught.value) == f"{path} line 2: is not 'SHA-256  path'; fetch it again"
    assert registry.complete("picture") == []


def test_manifest_that_is_no_text(picture):
    registry.manifest("picture").write_bytes(b"\xff\xfe\0")
    with pytest.raises(DataError, match=r"picture\.sha256: is not text; fetch it again"):
        registry.image("picture")


def test_no_manifest(picture):
    path = registry.manifest("picture")
    for change in (path.unlink, path.mkdir):
        change()
        with pytest.raises(MissingError) as caught:
            registry.image("picture")
        assert str(caught.value) == f"{path}: no such file; texnet fetch picture makes it"
        assert registry.complete("picture") == []


def test_one_bit_changed(picture):
    for bit in range(8 * len(b"picture")):
        content = bytearray(b"picture")
        content[bit // 8] ^= 1 << bit % 8
        picture.write_bytes(content)
        with pytest.raises(DataError, match=f"b.jpg: sha256 is {digest(content)}, wanted"):
            registry.image("picture")
        assert registry.complete("picture") == []


@pytest.mark.parametrize("content", [b"", b"pictur", b"pictures"])
def test_another_length(picture, content):
    picture.write_bytes(content)
    with pytest.raises(DataError, match="texnet fetch picture restores it"):
        registry.image("picture")


def test_file_is_gone(picture):
    picture.unlink()
    with pytest.raises(MissingError, match=r"b\.jpg: no such file; expected a fetched file"):
        registry.image("picture")
    assert registry.complete("picture") == []


def test_large_set_is_not_read_again(picture, monkeypatch):
    """Of more than 2 GB, only that each file is there."""
    monkeypatch.setattr(registry, "LARGE", 1)
    picture.write_bytes(b"changed")
    assert registry.complete("picture") == ["picture"]
    picture.unlink()
    assert registry.complete("picture") == []


def test_unknown_name(picture):
    with pytest.raises(UsageError, match=r"'other' is not in data/registry\.csv; use one of pict"):
        registry.entries_of("other")


def test_broken_registry_gives_one_line(tmp_path, monkeypatch, capsys):
    path = tmp_path / "registry.csv"
    path.write_text(f"{HEADER}\n{ROW.replace('12', 'many')}\n")
    monkeypatch.setattr(registry, "registered", lambda: registry.read_registry(path))
    assert cli.main(["fetch", "thing"]) == DataError.code
    assert capsys.readouterr() == (
        "",
        f"texnet fetch: error: {path} line 2: bytes 'many' is no size in bytes; correct it\n",
    )
