"""
One training run with rollouts from an endpoint that the test serves, in several processes under ZeRO-3.

Usage: server_worker.py FOLDER URL
"""

import json
import sys
from pathlib import Path


sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2]), str(Path(__file__).parent)]

import deepspeed  # noqa: E402
from fake_server import without_gpu_transfer  # noqa: E402

import toy  # noqa: E402
from sharded import deepspeed_config  # noqa: E402
from trl_amft import AMFTTrainer  # noqa: E402
from trl_amft.cli.leave import leave  # noqa: E402
from trl_amft.two_segment_step import TwoSegmentStep  # noqa: E402


def main() -> None:
    folder, url = sys.argv[1:]
    model, tokenizer = toy.model()
    args = toy.config(
        folder,
        use_vllm=True,
        vllm_mode="server",
        vllm_server_base_url=url,
        per_device_train_batch_size=4,
        max_steps=6,
        meta_window=1,
        ddp_backend="gloo",
        deepspeed=deepspeed_config(3),
    )
    for replaced in without_gpu_transfer([]):
        replaced.start()
    trainer = AMFTTrainer(
        model=model,
        reward_funcs=toy.dense_reward,
        args=args,
        train_dataset=toy.prompt_set(),
        processing_class=tokenizer,
        demonstration_dataset=toy.demonstration_set(),
    )
    store = TwoSegmentStep.store_sft_gradient

    steps = []

    def noted(algebra):
        steps.append(trainer.state.global_step)
        store(algebra)

    TwoSegmentStep.store_sft_gradient = noted
    trainer.train()
    (Path(folder) / f"ahead-{trainer.accelerator.process_index}.json").write_text(json.dumps(steps))


if __name__ == "__main__":
    deepspeed.init_distributed(dist_backend="gloo")
    main()
    leave(0)
