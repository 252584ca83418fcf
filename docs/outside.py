"""Links of the site to files outside docs/: the build copies such a file into the site and points the link there."""

import re
from pathlib import Path
from posixpath import normpath, relpath

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")


def outside(page, target):
    """The path from the root of what a page links to, where it is a file outside docs/; else None."""
    path = normpath(f"docs/{page}/../{target}")
    return None if path.startswith("docs/") or not (ROOT / path).is_file() else path


def on_files(files, config):
    for page in list(files.documentation_pages()):
        for target in LINK.findall(page.content_string):
            path = outside(page.src_uri, target)
            # As text, so that the links of these files are no links of the site.
            if path and not files.get_file_from_path(place(path)):
                files.append(File.generated(config, place(path), content=(ROOT / path).read_text()))
    return files


def on_page_markdown(markdown, page, **_):
    here = page.file.src_uri
    return LINK.sub(
        lambda link: relpath(place(path), start=normpath(f"{here}/..")) if (path := outside(here, link[1])) else link[1], markdown
    )


def place(path):
    return f"source/{path}.txt"
