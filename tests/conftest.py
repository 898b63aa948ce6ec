"""Before anything of the Hugging Face stack is imported: no Hub, no telemetry, one thread for tiny models."""

import os


os.environ["CI"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# Threads that wait for each other cost more than tiny matrices take, above all with several test processes.
os.environ["OMP_NUM_THREADS"] = "1"
