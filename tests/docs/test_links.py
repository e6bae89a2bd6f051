"""Links lead somewhere: those of the Markdown to files, and those between built pages."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("links", ROOT / "docs" / "links.py")
links = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(links)
GENERATED = {"rules", "remedies", "experiments", "modules", "_build"}
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if not GENERATED & set(path.relative_to(ROOT).parts)
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_the_markdown_lead_to_files_and_headings(page):
    assert list(links.broken_markdown_links(page)) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    (tmp_path / "index.html").write_text(
        '<a href="other.html#there">a</a><a href="other.html#gone">b</a>'
        '<a href="none.html">c</a><a href="https://example.org/none">d</a>'
        '<a href="#here">e</a><h1 id="here"></h1><img src="none.png"><a href="folder/">f</a>'
    )
    (tmp_path / "other.html").write_text('<h2 id="there">x</h2>')
    assert list(links.broken_links(tmp_path)) == [
        "index.html: other.html#gone",
        "index.html: none.html",
        "index.html: none.png",
        "index.html: folder/",
    ]
    assert links.main(str(tmp_path)) == 1
    assert links.main(str(tmp_path / "nowhere")) == 2


def test_a_heading_or_file_that_is_missing_is_found(tmp_path):
    page = tmp_path / "a.md"
    page.write_text("# One thing\n[x](#one-thing) [y](#two) [z](b.md)\n```\n[no](link.md)\n```\n")
    assert list(links.broken_markdown_links(page)) == ["a.md: #two", "a.md: b.md"]
