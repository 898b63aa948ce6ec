"""Steps of a real trainer that are kept, and the same step written down in plain PyTorch."""

import pytest
import torch

import toy
from trl_amft import AMFTTrainer
from trl_amft.demonstrations.paired import SLOT


GENERATIONS = 4


class Recording(AMFTTrainer):
    """Keeps what a mixed step was made of, and the gradient that it wrote."""

    def _begin_step(self, model, known):
        super()._begin_step(model, known)
        self.micro_batches, self.rows = [], []

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.micro_batches.append(dict(inputs))
        return super().compute_loss(model, inputs, *args, **kwargs)

    def _mix(self, model, known):
        load = self._supervised.load
        # Not a copy of the object: TRL has tied its forward pass to the original.
        self.model_before = toy.model()[0].double()
        self.model_before.load_state_dict(self.model.state_dict())

        def noted(parts):
            self.rows = [row for part in parts for row in part]
            load(parts)

        self._supervised.load = noted
        if self._paired is None:
            # Rows of a separate set were drawn when the step began.
            self.rows = None
            self.batches = list(self._supervised._batches)
        loss = super()._mix(model, known)
        self.steps = [*getattr(self, "steps", []), self.check(self)]
        return loss


def run(tmp_path, name, check, options=None, dataset=None, reward=toy.dense_reward, **overrides):
    settings = {"mixing_policy": name, "mixing_policy_kwargs": options, "max_steps": 3, "max_grad_norm": 1e9}
    model, tokenizer = toy.model()
    extra = {} if dataset is not None else {"demonstration_dataset": toy.demonstration_set(lengths=True)}
    trainer = Recording(
        model=model.double(),
        reward_funcs=reward,
        args=toy.config(tmp_path, **{**settings, **overrides}),
        train_dataset=dataset or toy.prompt_set(),
        processing_class=tokenizer,
        **extra,
    )
    trainer.check = check
    trainer.train()
    return trainer


def log_probs(model, ids, start):
    """Log-probabilities and entropies of a sequence from position `start` on."""
    logits = model(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1]
    all_of_them = logits.log_softmax(-1)
    entropies = -(all_of_them.exp() * all_of_them).sum(-1).detach()
    return all_of_them.gather(1, torch.tensor(ids[start:])[:, None])[:, 0], entropies


def rollouts(trainer):
    """Prompt and completion ids, advantage and group of every rollout of the step."""
    for batch in trainer.micro_batches:
        for row in range(len(batch["advantages"])):
            prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()].tolist()
            completion = batch["completion_ids"][row][batch["completion_mask"][row].bool()].tolist()
            group = batch[SLOT][row].item() // GENERATIONS if SLOT in batch else None
            yield prompt, completion, batch["advantages"][row].item(), group


def demonstrations(trainer):
    """Prompt and completion ids and count of every demonstration of the step."""
    if trainer.rows is not None:
        for row in trainer.rows:
            ids = row.row["demonstration_prompt_ids"], row.row["demonstration_completion_ids"]
            yield *ids, row.count
        return
    for batch in trainer.batches:
        for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
            used, labelled = ids[mask.bool()].tolist(), int((labels != -100).sum())
            yield used[:-labelled], used[-labelled:], 1.0


def compare(trainer, mu, advantage, token_weight):
    """The gradient that was written is (1 − μ) ∇ Σ A log π / T_R + μ ∇ Σ w (−log p) / T_S, each part by itself."""
    model = trainer.model_before
    parameters = [p for p in model.parameters() if p.requires_grad]
    rl, count = 0.0, 0
    for prompt, completion, given, group in rollouts(trainer):
        found, entropies = log_probs(model, prompt + completion, len(prompt))
        rl = rl - advantage(given, group, entropies.mean().item()) * found.sum()
        count += len(completion)
    rl_grads = torch.autograd.grad(rl / count, parameters)
    sft, tokens = 0.0, 0.0
    for index, (prompt, completion, share) in enumerate(demonstrations(trainer)):
        found, entropies = log_probs(model, prompt + completion, len(prompt))
        weights = token_weight(found.detach().exp(), entropies.mean().item(), index)
        sft = sft - share * (weights * found).sum()
        tokens += share * len(completion)
    sft_grads = torch.autograd.grad(sft / tokens, parameters) if tokens else [torch.zeros_like(g) for g in rl_grads]
    norms = [sum(g.square().sum() for g in grads).sqrt().item() for grads in (rl_grads, sft_grads)]
    mu = mu(*norms, count, tokens) if callable(mu) else mu
    assert trainer.mixing_weight == pytest.approx(mu, rel=1e-5)
    moved = 0.0
    for parameter, rl_grad, sft_grad in zip(trainer.model.parameters(), rl_grads, sft_grads, strict=True):
        torch.testing.assert_close(parameter.grad, (1 - mu) * rl_grad + mu * sft_grad, rtol=1e-4, atol=1e-6)
        moved += parameter.grad.abs().max().item()
    assert moved > 1e-2
    return mu, tokens
