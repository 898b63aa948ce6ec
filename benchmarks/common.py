"""What every benchmark records beside its numbers."""

import json
import os
import platform
from datetime import date
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from trl_amft.compat import installed_versions


def append_result(name: str, result: dict) -> Path:
    """
    Append a result to `benchmarks/results/NAME.jsonl` with hardware, versions and date.

    Args:
        name (`str`):
            Name of the benchmark.
        result (`dict`):
            Its settings and numbers.

    Returns:
        `Path`: the file.
    """
    path = Path(__file__).parent / "results" / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU"
    hardware = {
        "device": device,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    record = {"date": date.today().isoformat(), "hardware": hardware, "versions": installed_versions(), **result}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    return path


def print_table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a table whose numbers are aligned to the right."""
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
