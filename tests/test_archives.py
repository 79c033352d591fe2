"""Archives unpacked: images alone, inside their folder, all or none, whatever the archive says."""

import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from servers import Server, digest, entry, ranged, register, small_disk

from texnet import archives, registry
from texnet.archives import unpack
from texnet.errors import DataError, WriteError
from texnet.fetch import Patience, fetch

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("zip", "stored.zip", "tar", "tar.gz", "tgz")
IMAGES = {name: random.Random(name).randbytes(3000) for name in ("a.jpg", "b/c.JPG", "b/d/e.png")}
OTHERS = {
    "read me.txt": b"text",
    "b/.hidden.jpg": b"hidden",
    ".git/f.jpg": b"hidden",
    "__MACOSX/._a.jpg": b"fork",
    "b/__MACOSX/._c.JPG": b"fork",
    "no_suffix": b"x",
    "jpg": b"x",
    "movie.mp4": b"x",
}
FOLDER = None
"""In place of a member's content."""


def make(path, members):
    """An archive of (name, content) pairs, or of what zipfile or tarfile call a member's info."""
    if path.suffix == ".zip":
        kind = zipfile.ZIP_STORED if "stored" in path.name else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", kind) as out:
            for name, content in members:
                if content is FOLDER:
                    name = zipfile.ZipInfo(f"{name}/")
                    name.external_attr = 0o40755 << 16
                out.writestr(name, content or b"")
        return path
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as out:
        for name, content in members:
            info = name
            if isinstance(name, str):
                info = tarfile.TarInfo(name)
                info.type = tarfile.DIRTYPE if content is FOLDER else tarfile.REGTYPE
            info.size = len(content or b"")
            out.addfile(info, io.BytesIO(content or b""))
    return path


def below(folder):
    """Content of all files below a folder, by path."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


@pytest.fixture
def place(tmp_path):
    """Where an archive lies, with a file beside it that must not change."""
    (tmp_path / "place").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    return tmp_path / "place"


def nothing_else(archive, folder):
    """Nothing but the archive is there."""
    place = archive.parent
    assert set(place.iterdir()) == {archive} | ({folder} if folder.exists() else set())
    assert below(place.parent).keys() >= {"secret.jpg"}
    assert (place.parent / "secret.jpg").read_bytes() == b"secret"
    assert {p.name for p in place.parent.iterdir()} == {"place", "secret.jpg"}
    return True


def refused(archive, says="", kind=DataError, folder=None):
    folder = folder or archive.parent / "photos"
    with pytest.raises(kind) as caught:
        unpack(archive, folder)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert str(archive if kind is DataError else folder) in str(caught.value)
    assert not folder.exists()
    assert nothing_else(archive, folder)


# Good ones


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", ["", "photos/", "./", "./photos/", "x/y/"])
def test_images_are_unpacked(place, kind, first):
    """Not what is hidden or no image; without a first folder that all share, but no second."""
    members = [(f"{first}{name}", content) for name, content in (IMAGES | OTHERS).items()]
    folders = [(name, FOLDER) for name in ("photos", "photos/empty", ".")]
    archive = make(place / f"archive.{kind}", [*folders, *members])
    found = unpack(archive, place / "photos")
    shared = "y/" if first == "x/y/" else ""
    assert found == {f"{shared}{name}": digest(content) for name, content in IMAGES.items()}
    assert below(place / "photos") == {f"{shared}{n}": content for n, content in IMAGES.items()}
    assert nothing_else(archive, place / "photos")
    # Again, over what is there: what is no longer in it goes.
    (place / "photos/old.jpg").touch()
    assert unpack(archive, place / "photos") == found
    assert not (place / "photos/old.jpg").exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a.jpg", "./a.jpg", "photos/a.jpg", "./photos/a.jpg"])
def test_one_image(place, kind, name):
    archive = make(place / f"archive.{kind}", [(name, b"image")])
    assert unpack(archive, place / "photos") == {"a.jpg": digest(b"image")}
    assert below(place / "photos") == {"a.jpg": b"image"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_process_left_goes(place, kind):
    (place / ".photos.part/photos").mkdir(parents=True)
    (place / ".photos.part/photos/stale.jpg").touch()
    (place / ".photos.part/a.jpg").mkdir()
    archive = make(place / f"archive.{kind}", IMAGES.items())
    unpack(archive, place / "photos")
    assert below(place / "photos") == IMAGES
    assert nothing_else(archive, place / "photos")


@pytest.mark.parametrize("kind", KINDS)
def test_odd_names(place, kind):
    names = ["Zürich 1.jpg", " .jpg.jpg", "a..b.jpg", "~/c.jpg", "$HOME.jpg", "-rf.jpg", "图.png"]
    archive = make(place / f"archive.{kind}", [(name, name.encode()) for name in names])
    assert set(unpack(archive, place / "photos")) == set(names)
    assert below(place / "photos") == {name: name.encode() for name in names}


# Members that are refused


def tar_info(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_info(name, mode):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


OUTSIDE = "is a link, a device or outside of its folder"
NAMES = ["../x.jpg", "a/../../x.jpg", "..", "a/..", "../secret.jpg", "/tmp/x.jpg", "//x.jpg",
         "..\\x.jpg", "a\\x.jpg", "C:\\x.jpg", "line\nbreak.jpg", "escape\x1b[2J.jpg",
         "../", "/", "../x.txt", "/x.txt", "a/../x.jpg", "../__MACOSX/x.jpg",
         ".hidden/../../x.jpg", "line\u2028break.jpg"]  # fmt: skip
ODD = {
    "tar symlink": tar_info("x.jpg", tarfile.SYMTYPE, "../secret.jpg"),
    "tar symlink inside": tar_info("x.jpg", tarfile.SYMTYPE, "a.jpg"),
    "tar symlink of a folder": tar_info("b", tarfile.SYMTYPE, "/tmp"),
    "tar symlink without suffix": tar_info("x", tarfile.SYMTYPE, "a.jpg"),
    "tar hard link": tar_info("x.jpg", tarfile.LNKTYPE, "a.jpg"),
    "tar hard link outside": tar_info("x.jpg", tarfile.LNKTYPE, "../secret.jpg"),
    "tar device": tar_info("x.jpg", tarfile.CHRTYPE),
    "tar block device": tar_info("x.jpg", tarfile.BLKTYPE),
    "tar fifo": tar_info("x.jpg", tarfile.FIFOTYPE),
    "zip symlink": zip_info("x.jpg", 0o120777),
    "zip symlink of a folder": zip_info("b/", 0o120777),
    "zip device": zip_info("x.jpg", 0o020666),
    "zip fifo": zip_info("x.jpg", 0o010666),
    "zip socket": zip_info("x.jpg", 0o140666),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("last", [True, False])
def test_names_outside(place, kind, name, last):
    members = list(IMAGES.items())
    members.insert(len(members) if last else 0, (name, FOLDER if name[-1] in "./" else b"evil"))
    refused(make(place / f"archive.{kind}", members), OUTSIDE)


@pytest.mark.parametrize("name", ODD)
def test_links_and_devices(place, name):
    kind = name.partition(" ")[0]
    content = b"../secret.jpg" if kind == "zip" else b""
    refused(make(place / f"archive.{kind}", [*IMAGES.items(), (ODD[name], content)]), OUTSIDE)


def test_nothing_is_written_through_a_link(place):
    members = [(ODD["tar symlink of a folder"], b""), ("b/x.jpg", b"evil")]
    refused(make(place / "archive.tar", members), OUTSIDE)
    assert not Path("/tmp/x.jpg").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "names",
    [("a.jpg", "a.jpg"), ("a.jpg", "./a.jpg"), ("b//a.jpg", "b/a.jpg"), ("b/./a.jpg", "b/a.jpg"),
     ("a.jpg", "a.jpg/b.jpg"), ("a.jpg/b.jpg", "a.jpg"), ("a.jpg", "a.jpg/b/c.jpg")],
)  # fmt: skip
def test_the_same_member_twice(place, kind, names):
    archive = make(place / f"archive.{kind}", [(names[0], b"one"), (names[1], b"two")])
    refused(archive, "comes twice")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("members", [{}, OTHERS, {"a": FOLDER}, {"empty.jpg": FOLDER}])
def test_no_image_inside(place, kind, members):
    refused(make(place / f"archive.{kind}", members.items()))


def test_latin_1_name(place):
    """No text in UTF-8, which the manifest is."""
    archive = make(place / "archive.tar", [("caf?.jpg", b"image")])
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as out:
        out.addfile(tarfile.TarInfo("café.jpg"))
    refused(archive, OUTSIDE)


def test_name_too_long(place):
    archive = make(place / "archive.tar", [("a" * 300 + ".jpg", b"image")])
    refused(archive, "File name too long", kind=WriteError)


# Damage


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "content", [b"", b"\0", b"no archive", bytes(2000), b"PK\3\4", b"\x1f\x8b", b"BZh9", os.urandom]
)
def test_no_archive(place, kind, content):
    archive = place / f"archive.{kind}"
    archive.write_bytes(content if isinstance(content, bytes) else content(5000))
    refused(archive)


@pytest.mark.parametrize("kind", KINDS)
def test_truncated(place, kind):
    """Wherever it ends, unless all that is missing is padding."""
    archive = make(place / f"archive.{kind}", IMAGES.items())
    whole = archive.read_bytes()
    last = whole.rstrip(b"\0") if kind == "tar" else whole
    ends = random.Random(0).sample(range(len(last)), 60)
    for end in [0, 1, 511, 512, 513, 1024, 4096, 4608, len(last) - 1, *ends]:
        archive.write_bytes(whole[:end])
        refused(archive)


@pytest.mark.parametrize("kind", KINDS)
def test_changed_bytes(place, kind):
    """Refused, or what came out is right; plain tar has no checksum of the content."""
    archive = make(place / f"archive.{kind}", IMAGES.items())
    whole = archive.read_bytes()
    chance, wanted = random.Random(0), set(IMAGES.values())
    noticed = 0
    for _ in range(150):
        changed = bytearray(whole)
        changed[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        archive.write_bytes(changed)
        shutil.rmtree(place / "photos", ignore_errors=True)
        try:
            unpack(archive, place / "photos")
        except DataError as error:
            noticed += 1
            assert "\n" not in str(error) and not (place / "photos").exists()
        else:
            found = set(below(place / "photos").values())
            assert found <= wanted or (kind == "tar" and len(found - wanted) == 1)
        assert nothing_else(archive, place / "photos")
    assert noticed > (5 if kind == "tar" else 100)


@pytest.mark.parametrize("suffix", ["bz2", "xz"])
def test_damage_in_other_compressions(place, suffix):
    """A file named .tar may be compressed in other ways, and a member of a zip file too."""
    archive, kind = place / "archive.tar", {"bz2": zipfile.ZIP_BZIP2, "xz": zipfile.ZIP_LZMA}
    with tarfile.open(archive, f"w:{suffix}") as out:
        for name, content in IMAGES.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    assert len(unpack(archive, place / "photos")) == 3
    archive.write_bytes(_middle_changed(archive.read_bytes()))
    (place / "photos").rename(place.parent / "moved")
    with pytest.raises(DataError, match="damaged archive"):
        unpack(archive, place / "photos")
    archive = place / "archive.zip"
    with zipfile.ZipFile(archive, "w", kind[suffix]) as out:
        out.writestr("a.jpg", IMAGES["a.jpg"])
    archive.write_bytes(_middle_changed(archive.read_bytes()))
    with pytest.raises(DataError, match="damaged archive"):
        unpack(archive, place / "photos")
    assert not (place / "photos").exists()


def _middle_changed(content):
    middle = len(content) // 2
    return content[:middle] + bytes(b ^ 255 for b in content[middle : middle + 64]) + content[
        middle + 64 :
    ]  # fmt: skip


def test_crc_of_a_member(place):
    archive = make(place / "archive.stored.zip", IMAGES.items())
    content = archive.read_bytes()
    at = content.index(IMAGES["b/d/e.png"])
    archive.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    refused(archive, "Bad CRC-32")


def test_crc_at_the_end_of_gzip(place):
    """After the last member, where tarfile has stopped reading."""
    archive = make(place / "archive.tar.gz", IMAGES.items())
    content = archive.read_bytes()
    for at in (-8, -1):
        changed = bytearray(content)
        changed[at] ^= 1
        archive.write_bytes(changed)
        refused(archive, "damaged archive")


def test_encrypted(place):
    """The flag alone: without a password nothing more is read."""
    archive = make(place / "archive.stored.zip", IMAGES.items())
    content = bytearray(archive.read_bytes())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        at = content.index(mark)
        content[at + offset] |= 1
    archive.write_bytes(content)
    refused(archive, "encrypted")


# Bombs


@pytest.fixture
def small_limits(monkeypatch):
    monkeypatch.setattr(archives, "LARGEST_IMAGE", 20_000)
    monkeypatch.setattr(archives, "BLOCK", 1000)
    written = []
    monkeypatch.setattr(
        archives.hashlib, "sha256", lambda: type("Hash", (), {"update": written.append})()
    )
    return lambda: sum(map(len, written))


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_one_member_too_large(place, small_limits, kind):
    archive = make(place / f"archive.{kind}", [("a.jpg", bytes(2_000_000))])
    refused(archive, "larger than")
    assert small_limits() <= 20_000


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_members_too_large_together(place, monkeypatch, kind):
    monkeypatch.setattr(archives, "LARGEST_IMAGE", 20_000)
    archive = make(place / f"archive.{kind}", [(f"{i}.jpg", bytes(19_000)) for i in range(50)])
    assert archive.stat().st_size * archives.EXPANSION < 50 * 19_000
    refused(archive, "this is no archive of photographs")


@pytest.mark.parametrize("told", [0, 10, 19_999, 2**31])
def test_header_that_lies(place, monkeypatch, told):
    """Of a member that grows to 2 MB."""
    monkeypatch.setattr(archives, "LARGEST_IMAGE", 20_000)
    archive = make(place / "archive.zip", [("a.jpg", bytes(2_000_000))])
    content = bytearray(archive.read_bytes())
    for mark, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        at = content.index(mark) + offset
        content[at : at + 4] = told.to_bytes(4, "little")
    archive.write_bytes(content)
    refused(archive)


def test_members_that_share_their_bytes(place, monkeypatch):
    """A zip file whose directory lists one member many times, under other names."""
    monkeypatch.setattr(archives, "LARGEST_IMAGE", 20_000)
    archive = place / "archive.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("0000.jpg", bytes(19_000))
        first = out.filelist[0]
        for i in range(1, 200):
            info = zipfile.ZipInfo(f"{i:04}.jpg")
            for key in ("header_offset", "compress_size", "file_size", "CRC", "compress_type"):
                setattr(info, key, getattr(first, key))
            out.filelist.append(info)
    refused(archive)


# The disk


def test_disk_full_in_mid_unpack(place, tmp_path):
    images = {f"{i}.jpg": random.Random(i).randbytes(200_000) for i in range(4)}
    archive = make(place / "archive.zip", images.items())
    with small_disk(place.parent / "small") as disk:
        if disk is None:
            pytest.skip("no small file system can be mounted here")
        filler = disk / "filler"
        filler.write_bytes(bytes(500_000))
        with pytest.raises(WriteError) as caught:
            unpack(archive, disk / "photos")
        assert str(caught.value) == (
            f"{disk}/photos: cannot be written (No space left on device); free some space and "
            "fetch again"
        )
        assert list(disk.iterdir()) == [filler]
        filler.unlink()
        unpack(archive, disk / "photos")
        assert below(disk / "photos") == images


def test_file_size_limit_in_mid_unpack(place):
    archive = make(place / "archive.zip", [("a.jpg", bytes(100)), ("b.jpg", os.urandom(9000))])
    script = (
        "import resource, sys\nfrom pathlib import Path\nfrom texnet.archives import unpack\n"
        "from texnet.errors import WriteError\n"
        "before = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))\n"
        "try: unpack(*map(Path, sys.argv[1:]))\nexcept WriteError as error: print(error)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, archive, place / "photos"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "photos: cannot be written (File too large)" in done.stdout
    assert not (place / "photos").exists() and nothing_else(archive, place / "photos")
    assert len(unpack(archive, place / "photos")) == 2


# Through the registry


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TEXNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_fetched(place, cache, monkeypatch, kind):
    members = [(f"val2014/{name}", content) for name, content in (IMAGES | OTHERS).items()]
    content = make(place / f"archive.{kind}", members).read_bytes()
    file = f"coco/val2014.{kind}"
    with Server(ranged(content, most=5000), ranged(content)) as server:
        listed = entry(f"{server.url}/{file}", file=file, content=content, name="coco")
        register(monkeypatch, listed)
        for _ in range(2):
            path = fetch("coco", patience=Patience(pause=0.01))
            assert len(server.calls) == 2
            files = {f"coco/val2014/{name}": image for name, image in IMAGES.items()}
            wanted = [f"{digest(image)}  {name}\n" for name, image in files.items()]
            assert sorted(path.read_text().splitlines(True)) == sorted(wanted)
            assert below(cache) == files | {".coco.lock": b"", "coco.sha256": path.read_bytes()}
        assert registry.complete("coco") == ["coco"]
        # An image of it is changed, or gone: all of it comes again.
        (cache / "coco/val2014/a.jpg").write_bytes(b"x")
        assert registry.complete("coco") == []
        assert fetch("coco", patience=Patience(pause=0.01)).read_text() == "".join(wanted)
        assert below(cache / "coco") == {f"val2014/{name}": image for name, image in IMAGES.items()}


@pytest.mark.parametrize("name", ["../../x.jpg", "/tmp/x.jpg"])
def test_fetched_and_refused(place, cache, monkeypatch, name):
    """The checksum is right: the archive was so when it was registered."""
    content = make(place / "archive.zip", [("a.jpg", b"image"), (name, b"evil")]).read_bytes()
    (place / "coco").mkdir()
    (place / "coco/val.zip").write_bytes(content)
    register(monkeypatch, entry(file="coco/val.zip", content=content, name="coco"))
    with pytest.raises(DataError, match=OUTSIDE):
        fetch("coco", [str(place)])
    assert below(cache) == {".coco.lock": b"", "coco/val.zip": content}
