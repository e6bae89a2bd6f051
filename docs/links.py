"""Check links without the network: those between built pages, and those of Markdown to files.

``python docs/links.py docs/_build/html`` prints every link that leads nowhere, and ends with 1 if
there is one. Links to other machines are not followed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
MARKDOWN_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^ *(```+|~~~+).*?^ *\1", flags=re.DOTALL | re.MULTILINE)


class _Page(HTMLParser):
    """The links of a page and the places in it that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.links.append(value)
            if name in ("id", "name") and value:
                self.anchors.add(value)


@cache
def _page(path: Path) -> _Page:
    return _Page(path.read_text(encoding="utf-8"))


def broken_links(built: Path) -> Iterator[str]:
    """Yield ``page: link`` for every link between the pages in ``built`` that leads nowhere."""
    for path in sorted(built.rglob("*.html")):
        for link in dict.fromkeys(_page(path).links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path.parent / unquote(parts.path) if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            # Sphinx's own pages of sources lack the anchor of a name that is defined twice.
            anchor = "" if "_modules" in target.parts else unquote(parts.fragment)
            missing = not target.is_file()
            is_page = target.suffix == ".html"
            if missing or (anchor and is_page and anchor not in _page(target).anchors):
                yield f"{path.relative_to(built)}: {link}"


def broken_markdown_links(page: Path) -> Iterator[str]:
    """Yield ``page: link`` for every relative link of a Markdown page to a file that is not there.

    Pages that are generated are not there before the documentation is built.
    """
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for found in MARKDOWN_LINK.finditer(text):
        parts = urlsplit(found["target"])
        target = page.parent / unquote(parts.path) if parts.path else page
        if parts.scheme or parts.netloc or _generated(target):
            continue
        if not target.exists() or (parts.fragment and parts.fragment not in _headings(target)):
            yield f"{page.name}: {found['target']}"


def _generated(target: Path) -> bool:
    folders = {"rules", "remedies", "experiments", "modules"}
    docs = ROOT / "docs"
    target = target.resolve()
    return target.is_relative_to(docs) and bool(folders & set(target.relative_to(docs).parts))


def _headings(page: Path) -> set[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.+?) *$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def main(built: str) -> int:
    """Print the broken links of the pages in ``built``; return the exit status."""
    folder = Path(built)
    if not (folder / "index.html").is_file():
        print(f"expected built pages in {folder}, but there is no index.html", file=sys.stderr)
        return 2
    found = list(broken_links(folder))
    print("\n".join(found) or f"every link between {len(list(folder.rglob('*.html')))} pages holds")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
