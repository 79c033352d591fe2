"""Pages in a browser without a network: what they show, load and complain of."""

import re
import shutil
from html.parser import HTMLParser

import pytest
from conftest import call

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless --disable-gpu --no-sandbox --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update --enable-logging=stderr --v=0 "
    "--virtual-time-budget=10000"
).split()
ADDRESS = r"(?:url\(|@import)\s*[\"']?([^\"')]+)"
"""Of what a style sheet loads."""


def browse(path, profile):
    """A page's document once its scripts have run without a network, and what it complains of."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed: the page was not run")
    done = call(
        found, *FLAGS, "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}",
        "--dump-dom", path.as_uri(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Document(done.stdout), complaints(done.stderr)


def complaints(log):
    """Errors of a page in the log of Chromium, which calls them INFO where the page is a file."""
    lines = [line for line in log.splitlines() if ":CONSOLE" in line]
    return [line for line in lines if re.search(r":ERROR:CONSOLE|Uncaught|\w*Error\b", line)]


class Document(HTMLParser):
    """What a page shows as text, and the addresses that it loads something from."""

    def __init__(self, text):
        super().__init__()
        self.hidden, self.shown, self.loaded = False, [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.hidden = tag in ("script", "style", "title")
        given = dict(attributes)
        address = given.get("href") if tag == "link" else given.get("src") or given.get("srcset")
        self.loaded += [address] if address else []
        self.loaded += re.findall(ADDRESS, given.get("style") or "")

    def handle_endtag(self, tag):
        self.hidden = False

    def handle_data(self, data):
        if not self.hidden:
            self.shown += [data.strip()] if data.strip() else []
        elif self.lasttag == "style":
            self.loaded += re.findall(ADDRESS, data)

    def from_elsewhere(self):
        return [address for address in self.loaded if not address.startswith(("data:", "#"))]
