"""Before anything of the Hugging Face stack is imported: no Hub, no telemetry, one thread for tiny models."""

import os
import sys
from pathlib import Path


os.environ["CI"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# Threads that wait for each other cost more than tiny matrices take, above all with several test processes.
os.environ["OMP_NUM_THREADS"] = "1"
# What DeepSpeed compiles belongs to this environment: another one beside it would compile it again, and a run that is
# killed while it compiles leaves a lock for which all others wait.
os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "torch_extensions"))

import torch  # noqa: E402


# These compare a GPU with the CPU. Not a skip: without a GPU there is nothing that they could say.
collect_ignore = [] if torch.cuda.is_available() else ["distributed/test_gpu.py"]
