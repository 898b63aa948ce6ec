"""The project's studies, and one to change."""

import json
from pathlib import Path


ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "recipes" / "studies").glob("*.yaml"))
TINY, CORE = (str(ROOT / "recipes" / "studies" / f"{name}.yaml") for name in ("tiny", "core"))


def write(tmp_path, **changes):
    study = {
        "recipe": "recipes/quickstart.yaml",
        "seeds": [0, 1],
        "learning_rates": [1e-3],
        "policies": {"sft_then_rl": {"mixing_policy": "sft_then_rl"}, "grpo": {"mu_init": 0, "sft_warmup_steps": 0}},
        "conditions": {"right": {}, "wrong": {"task_kwargs": {"demonstration_quality": 0.0}}},
        "grid": [{"policies": "all", "conditions": ["right"]}, {"policies": ["grpo"], "conditions": "all"}],
        "start": "sft_then_rl",
        **changes,
    }
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps({name: value for name, value in study.items() if value is not None}))
    return path
