"""Pages as a reader, and as an attacker, meets them."""

from __future__ import annotations

import re
from html.parser import HTMLParser

MARKUP = '<script>alert("x")</script><img src=x onerror=alert(1)>'
HOSTILE = (
    MARKUP,
    "\"'&<b> {{ 7 * 7 }} {% x %}",
    "a\x1b[31m\x00\r\nb",
    "goat\u202egnp.exe",
    "\ud800",
    "Z" * 500,
    "لغة",
)


class Page(HTMLParser):
    """A page after a look at what every page must be; its words, its images and its links."""

    VOID = ("meta", "img", "input", "br")
    NEVER = ("script", "iframe", "object", "embed", "form", "link", "base", "svg")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images, self.words, self.open, self.links = [], [], [], []
        self.feed(text)
        assert not self.open
        assert "width=device-width" in text
        assert "default-src 'none'" in text
        text.encode()
        assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e\u2066-\u2069]", text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        assert tag not in self.NEVER
        assert not any(name.startswith("on") for name in values)
        if "href" in values:
            assert re.fullmatch(r"#?[a-z0-9][A-Za-z0-9./-]*", values["href"])
            self.links.append(values["href"])
        if tag == "img":
            assert values["src"].startswith(("data:image/jpeg;base64,", "data:image/png;base64,"))
            assert values["alt"]
            self.images.append(values)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def raw(self) -> str:
        return "".join(self.words)

    @property
    def text(self) -> str:
        return " ".join(self.raw.split())
