"""A model with another configuration: its files by link, and a `config.json` with some values changed.

The trainer and vLLM in the same process both load the model by its name, so what both have to know, such as a longer
context, has to stand in the files.
"""

import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

from huggingface_hub import snapshot_download

from .usage import UsageError, suggest


FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def folder_with_config(name: str, revision: str | None, changes: dict[str, Any], folder: Path) -> str:
    """
    Write the folder. Several processes may do so at once: what they write is the same, and each file appears whole.

    Args:
        name (`str`):
            Local folder of a model, or a name on the Hub.
        revision (`str`, *optional*):
            Revision on the Hub.
        changes (`dict[str, Any]`):
            New values of keys of `config.json`.
        folder (`Path`):
            Where to.

    Returns:
        `str`: the folder.
    """
    source = Path(name) if Path(name).is_dir() else Path(_download(name, revision))
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    for key, value in changes.items():
        if key not in config:
            raise UsageError(f"model_config: {name} has no {key}={value!r} in its config.json; {suggest(key, config)}")
    folder.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.is_file() and file.name != "config.json":
            _appear(folder / file.name, lambda path, file=file: path.symlink_to(file.resolve()))
    text = json.dumps(config | changes, indent=2) + "\n"
    _appear(folder / "config.json", lambda path: path.write_text(text, encoding="utf-8"))
    return str(folder)


def _download(name: str, revision: str | None) -> str:
    try:
        return snapshot_download(name, revision=revision, allow_patterns=FILES)
    # Network and Hub errors have no common base class.
    except Exception as error:
        raise UsageError(f"model_name_or_path={name!r} cannot be loaded: {error}") from None


def _appear(path: Path, write) -> None:
    # Processes in two containers that share a disk may have the same number.
    mine = path.with_name(f".{path.name}.{uuid4().hex}")
    write(mine)
    os.replace(mine, path)
