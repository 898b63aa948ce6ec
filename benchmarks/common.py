"""What every benchmark records beside its numbers."""

import ctypes
import json
import os
import platform
import statistics
import time
from datetime import date
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from trl_amft.compat import installed_versions


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

# Options of glibc's mallopt, and a size that nothing reaches.
TRIM_THRESHOLD, MMAP_THRESHOLD, NEVER = -1, -3, 2**30


def keep_freed_memory() -> None:
    """
    Have glibc keep what is freed, as the allocator of a GPU does. By itself it returns large pieces to the system, and
    a step pays for fresh pages each time.

    Raises:
        `OSError`: where there is no glibc.
    """
    for option in (TRIM_THRESHOLD, MMAP_THRESHOLD):
        if not ctypes.CDLL("libc.so.6").mallopt(option, NEVER):
            raise OSError("mallopt refused to keep freed memory")


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


def seconds() -> float:
    """Processor seconds on a CPU; seconds of the clock after all work is done on a GPU."""
    if DEVICE.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def matrix_rate(repeats: int = 8) -> float:
    """Operations per second of matrix products, in float32 with as many threads as the rest; on a GPU in bfloat16."""
    size, dtype = (1024, torch.float32) if DEVICE.type == "cpu" else (8192, torch.bfloat16)
    left, right = (torch.randn(size, size, device=DEVICE, dtype=dtype) for _ in range(2))
    left @ right
    rates = []
    for _ in range(repeats):
        start = seconds()
        left @ right
        rates.append(2 * size**3 / (seconds() - start))
    return statistics.median(rates)


def print_table(title: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a table whose numbers are aligned to the right."""
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
