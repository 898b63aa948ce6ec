"""Before anything of the Hugging Face stack is imported: no Hub, no telemetry."""

import os


os.environ["CI"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
