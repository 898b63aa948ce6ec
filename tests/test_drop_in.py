"""A GRPO script after two changed names, and what users of TRL do beside training."""

import re
import runpy
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import AutoPeftModelForCausalLM, LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

import toy
from trl_amft import AMFTConfig, AMFTTrainer
from trl_amft.runtime.model_card import PAPER_STATUS


SCRIPT = """
def reward_num_unique_letters(completions, **kwargs):
    return [float(len(set(completion))) for completion in completions]

args = GRPOConfig(
    output_dir=output_dir, per_device_train_batch_size=8, num_generations=4, max_completion_length=4, max_steps=2,
    bf16=False, report_to="none", use_cpu=True, logging_steps=1,
)
trainer = GRPOTrainer(
    model=model_path, reward_funcs=reward_num_unique_letters, args=args, train_dataset=dataset,
)
trainer.train()
"""


@pytest.fixture
def model_path(tmp_path):
    model, tokenizer = toy.model()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def execute(script, model_path, output_dir):
    names = {
        "GRPOConfig": GRPOConfig,
        "GRPOTrainer": GRPOTrainer,
        "AMFTConfig": AMFTConfig,
        "AMFTTrainer": AMFTTrainer,
        "model_path": model_path,
        "output_dir": str(output_dir),
        "dataset": toy.prompt_set(),
        "demonstrations": toy.demonstration_set(),
    }
    path = Path(output_dir).with_suffix(".py")
    path.write_text(script)
    return runpy.run_path(str(path), init_globals=names)["trainer"]


def test_a_grpo_script_after_two_changed_names(tmp_path, model_path):
    execute(SCRIPT, model_path, tmp_path / "grpo")
    script = SCRIPT.replace("GRPOConfig", "AMFTConfig").replace("GRPOTrainer", "AMFTTrainer")
    script = script.replace("train_dataset=dataset,", "train_dataset=dataset, demonstration_dataset=demonstrations,")
    trainer = execute(script, model_path, tmp_path / "amft")
    assert isinstance(trainer, AMFTTrainer) and trainer.state.global_step == 2
    start = AutoModelForCausalLM.from_pretrained(model_path)
    for (name, before), after in zip(start.named_parameters(), trainer.model.parameters(), strict=True):
        assert not torch.equal(before, after), f"{name} did not change"


def build(tmp_path, model, tokenizer, **kwargs):
    settings = {"max_steps": 4, "meta_window": 1, **kwargs.pop("settings", {})}
    return AMFTTrainer(
        model=model,
        reward_funcs=kwargs.pop("reward_funcs", toy.dense_reward),
        args=toy.config(tmp_path / "run", **settings),
        train_dataset=kwargs.pop("train_dataset", toy.prompt_set()),
        processing_class=tokenizer,
        demonstration_dataset=kwargs.pop("demonstration_dataset", toy.demonstration_set()),
        **kwargs,
    )


def test_callbacks_evaluation_and_checkpoints(tmp_path):
    events = []

    class Users(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            events.append(state.global_step)

    model, tokenizer = toy.model()
    settings = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    trainer = build(
        tmp_path,
        model,
        tokenizer,
        callbacks=[Users()],
        eval_dataset=Dataset.from_dict({"prompt": ["9a:", "9b:"]}),
        settings={**settings, "per_device_eval_batch_size": 8},
    )
    trainer.train()
    assert events == [1, 2, 3, 4]
    evaluations = [log for log in trainer.state.log_history if "eval_reward" in log]
    assert [log["step"] for log in evaluations] == [2, 4]
    assert not any(key.startswith("eval_amft") for log in evaluations for key in log)

    # The checkpoint is an ordinary one: transformers and GRPOTrainer take it.
    checkpoint = tmp_path / "run" / "checkpoint-4"
    reloaded = AutoModelForCausalLM.from_pretrained(checkpoint)
    for name, value in toy.parameters(trainer).items():
        assert torch.equal(dict(reloaded.named_parameters())[name], value)
    assert AutoTokenizer.from_pretrained(checkpoint)("1a:")["input_ids"] == tokenizer("1a:")["input_ids"]
    GRPOTrainer(
        model=str(checkpoint),
        reward_funcs=toy.dense_reward,
        args=toy.config(tmp_path / "grpo", GRPOConfig, max_steps=1),
        train_dataset=toy.prompt_set(),
    ).train()
    card = (tmp_path / "run" / "README.md").read_text()
    assert PAPER_STATUS in card and card.count(PAPER_STATUS) == 1
    assert "trained from random weights" in card and "None" not in card.split("---")[-1]
    assert "trained with AMFT" in card and re.search(r"- amft$", card, re.MULTILINE)


def test_lora_trains_the_adapter_only_and_merges(tmp_path):
    model, tokenizer = toy.model()
    base = {name: value.clone() for name, value in model.state_dict().items()}
    peft_config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    trainer = build(
        tmp_path, str(tmp_path / "base"), tokenizer, peft_config=peft_config, settings={"gradient_checkpointing": True}
    )
    trainer.train()
    assert trainer.mixing_callback.policy.updates > 0
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            assert parameter.abs().max() > 0, name
        elif "lora" not in name:
            key = name.removeprefix("base_model.model.").replace(".base_layer", "")
            assert torch.equal(parameter, base[key]), name
    trainer.save_model(str(tmp_path / "adapter"))
    merged = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = torch.tensor([[20, 21, 22]])
    trainer.model.eval()
    torch.testing.assert_close(plain(ids).logits, trainer.model(input_ids=ids).logits, atol=1e-4, rtol=1e-4)


def test_conversational_and_paired_demonstrations(tmp_path):
    model, tokenizer = toy.model()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}"
        "{% endif %}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    rows = [
        {"prompt": [{"role": "user", "content": p}], "demonstration": toy.right_answer(p) if i % 2 else None}
        for i, p in enumerate(toy.prompts())
    ]

    def reward(completions, **kwargs):
        return [float(len(completion[0]["content"])) for completion in completions]

    trainer = build(
        tmp_path,
        model,
        tokenizer,
        reward_funcs=reward,
        train_dataset=Dataset.from_list(rows),
        demonstration_dataset=None,
    )
    trainer.train()
    assert dict(trainer.demonstrations.counts) == {"used": 32, "absent": 32}
    decoded = tokenizer.decode(trainer.demonstrations.take(1)[0]["demonstration_completion_ids"])
    assert re.fullmatch(r"\d<eos>", decoded)


def test_streamed_prompts_and_demonstrations(tmp_path):
    model, tokenizer = toy.model()
    trainer = build(
        tmp_path,
        model,
        tokenizer,
        train_dataset=toy.prompt_set().to_iterable_dataset(),
        demonstration_dataset=toy.demonstration_set().to_iterable_dataset(),
    )
    trainer.train()
    assert trainer.state.global_step == 4


@pytest.mark.parametrize("family", ["moe", "bf16"])
def test_other_models(tmp_path, family):
    model, tokenizer = toy.model()
    settings = {}
    if family == "moe":
        from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 32, "moe_intermediate_size": 16, "num_experts": 4}
        heads = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
        settings["router_aux_loss_coef"] = 0.1
        model = Qwen2MoeForCausalLM(
            Qwen2MoeConfig(
                vocab_size=len(tokenizer), shared_expert_intermediate_size=16, num_experts_per_tok=2, **sizes, **heads
            )
        )
        model.generation_config.eos_token_id = tokenizer.eos_token_id
    else:
        model = model.to(torch.bfloat16)
        settings["bf16"] = True
    trainer = build(tmp_path, model, tokenizer, settings=settings)
    trainer.train()
    assert trainer.mixing_callback.policy.updates > 0
    if family == "moe":
        routers = [p for name, p in trainer.model.named_parameters() if name.endswith("mlp.gate.weight")]
        assert routers and trainer.aux_loss_enabled


def test_sft_gradient_of_a_mixture_of_experts_holds_the_balancing_loss(tmp_path):
    """The router's gradient of a step of weight 1 is that of NLL plus coefficient times auxiliary loss."""
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    _, tokenizer = toy.model()
    grads = {}
    for coefficient in (0.0, 5.0):
        torch.manual_seed(0)
        config = Qwen2MoeConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=32,
            moe_intermediate_size=16,
            num_experts=4,
            num_experts_per_tok=2,
            shared_expert_intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
        )
        model = Qwen2MoeForCausalLM(config)
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        settings = {"mixing_policy": "fixed", "mu_init": 1.0, "router_aux_loss_coef": coefficient, "max_steps": 1}
        trainer = build(tmp_path, model, tokenizer, settings=settings)
        trainer.train()
        grads[coefficient] = [log["grad_norm"] for log in trainer.state.log_history if "grad_norm" in log][0]
    assert grads[5.0] > 1.01 * grads[0.0]
