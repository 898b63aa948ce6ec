"""A run as a picture and as a table."""

from .run_figure import plot_run
from .run_table import run_table


__all__ = ["plot_run", "run_table"]
