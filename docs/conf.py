"""Configuration of the site: `sphinx-build -W -b html docs build/docs`. Without it the pages are plain Markdown."""

from importlib import metadata


project = "trl_amft"
author = "The trl_amft contributors"
copyright = author
release = version = metadata.version("trl_amft")

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["results"]

# Headings become anchors, as on a page of a repository.
myst_heading_anchors = 3
# Links to source files leave the site and are not copied into it.
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["myst.header"]

html_theme = "furo"
html_title = f"trl_amft {release}"
# The reader's browser asks nobody else for fonts or scripts.
html_static_path: list[str] = []
