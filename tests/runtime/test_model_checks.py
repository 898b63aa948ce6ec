"""Models and optimizers that cannot be trained here are told before rollouts, in one line that says what to do."""

import pytest
import torch

import toy
from messages import one_line
from trl_amft import AMFTTrainer
from trl_amft.runtime.input_checks import check_model


def test_a_model_on_several_devices(tmp_path):
    split = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, device="meta"))
    with pytest.raises(ValueError) as error:
        check_model(split, toy.model()[1], toy.config(tmp_path))
    one_line(error, "lie on cpu, meta", "accelerate launch", "CUDA_VISIBLE_DEVICES")
    split[1].requires_grad_(False)
    check_model(split, toy.model()[1], toy.config(tmp_path))
    with pytest.raises(ValueError) as error:
        check_model(split, lambda text, **kwargs: {"input_ids": []}, toy.config(tmp_path))
    one_line(error, "no tokenizer that makes tokens", "tokenizer.json", "processing_class")


def test_an_optimizer_of_a_part(tmp_path):
    model, tokenizer = toy.model()
    optimizer = torch.optim.AdamW([model.lm_head.weight], lr=1e-3)
    run = AMFTTrainer(
        model=model,
        reward_funcs=toy.reward,
        args=toy.config(tmp_path),
        train_dataset=toy.prompt_set(),
        processing_class=tokenizer,
        demonstration_dataset=toy.demonstration_set(),
        optimizers=(optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer)),
    )
    with pytest.raises(ValueError) as error:
        run.train()
    one_line(error, "optimizers", "lacks model.", "requires_grad to False")
