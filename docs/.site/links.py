"""MkDocs hook: files of the repository that a page links to, ``](../PATH)``, come into the site as ``files/PATH``."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

LINK = re.compile(r"\]\(\.\./([\w./-]+)")
ROOT = Path(__file__).parents[2]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    linked = {path for page in files.documentation_pages() for path in LINK.findall(page.content_string)}
    for path in sorted(linked):
        if (ROOT / path).is_file():  # another one is left as it is, for MkDocs to complain of
            files.append(File.generated(config, f"files/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    return LINK.sub(lambda match: f"](files/{match[1]}" if (ROOT / match[1]).is_file() else match[0], markdown)
