import json

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM
from trl.chat_template_utils import qwen3_chat_template

from trl_amft import AMFTConfig, AMFTTrainer
from trl_amft.tasks import load_general_points
from trl_amft.tasks.general_points_turns import ATTEMPTS, HINT, GeneralPointsTurns, as_tool_calls
from trl_amft.tiny_model import build_character_tokenizer


HAND = {"cards": ["3", "3", "8", "8"], "numbers": [3, 3, 8, 8], "target": 24}
RIGHT, WRONG, LEFT_OUT = '{"formula": "8/(3-8/3)=24"}', '{"formula": "3+3+8+8=24"}', '{"formula": "3*8=24"}'


@pytest.fixture
def environment():
    turns = GeneralPointsTurns()
    assert turns.reset(**HAND, prompt="other columns do not matter") == HINT
    return turns


class TestEnvironment:
    def test_words_of_the_verifier(self, environment):
        assert environment.submit_answer(WRONG) == "The formula does not reach 24. Attempts left: 4."
        assert environment.submit_answer(LEFT_OUT).endswith("each of the four numbers exactly once. Attempts left: 3.")
        assert environment.submit_answer("24").startswith("That cannot be read")
        assert environment.submit_answer('{"cards": ["3"], ' + RIGHT[1:]).startswith("The cards are not those")
        assert environment.get_reward() == 0.0
        assert environment.submit_answer(RIGHT) == "That is right."
        assert environment.get_reward() == 1.0

    def test_five_answers_are_graded(self, environment):
        for left in range(ATTEMPTS - 1, -1, -1):
            assert environment.submit_answer(WRONG).endswith(f"Attempts left: {left}.")
        assert environment.submit_answer(RIGHT) == "This hand is over."
        assert environment.get_reward() == 0.0

    def test_a_right_answer_ends_the_hand(self, environment):
        environment.submit_answer(RIGHT)
        assert environment.submit_answer(WRONG) == "This hand is over."
        assert environment.get_reward() == 1.0

    def test_no_answer_and_a_new_hand(self, environment):
        assert environment.get_reward() == 0.0
        environment.submit_answer(RIGHT)
        environment.reset(**HAND)
        assert environment.get_reward() == 0.0


def call(answer: str) -> str:
    return "<tool_call>\n" + json.dumps({"name": "submit_answer", "arguments": {"answer": answer}}) + "\n</tool_call>"


class TestTrainer:
    def tiny(self):
        tokenizer = build_character_tokenizer()
        tokenizer.add_special_tokens(
            {"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>", "<tool_call>", "</tool_call>"]}
        )
        tokenizer.chat_template = qwen3_chat_template
        config = Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        return Qwen2ForCausalLM(config), tokenizer

    def test_words_of_the_verifier_carry_no_loss_and_demonstrations_are_calls(self, tmp_path, monkeypatch):
        """What is sampled is written here; everything else is TRL's loop: parse, call, tell, mask, reward."""
        task = load_general_points(train_hands=4)
        train = task.train_dataset.map(lambda row: HAND)
        model, tokenizer = self.tiny()
        trainer = AMFTTrainer(
            model=model,
            processing_class=tokenizer,
            args=AMFTConfig(
                str(tmp_path),
                use_cpu=True,
                bf16=False,
                max_steps=1,
                per_device_train_batch_size=2,
                num_generations=2,
                per_device_demonstration_batch_size=1,
                max_completion_length=1200,
                max_tool_calling_iterations=ATTEMPTS,
                report_to="none",
                logging_steps=1,
                save_strategy="no",
            ),
            train_dataset=train,
            environment_factory=GeneralPointsTurns,
            demonstration_dataset=as_tool_calls(task.demonstration_dataset),
        )
        turns = iter([[call(WRONG), call(LEFT_OUT)], [call(RIGHT), call(WRONG)], ["Good.", "I give up."]])
        prompts, generated = [], []

        def sample(prompt_ids, *args, **kwargs):
            texts = next(turns)
            assert len(texts) == len(prompt_ids)
            prompts.append([tokenizer.decode(ids) for ids in prompt_ids])
            return [tokenizer(text + "<|im_end|>")["input_ids"] for text in texts], None

        monkeypatch.setattr(trainer, "_generate_single_turn", sample)
        score = trainer._generate_and_score_completions

        def keep(inputs):
            generated.append(score(inputs))
            return generated[-1]

        monkeypatch.setattr(trainer, "_generate_and_score_completions", keep)
        trainer.train()

        assert all(text.count(HINT.strip()) == 1 and "submit_answer" in text for text in prompts[0])
        assert "does not reach 24. Attempts left: 4." in prompts[1][0]
        assert "exactly once. Attempts left: 4." in prompts[1][1] and "That is right." in prompts[2][0]
        (batch,) = generated
        learned = (batch["completion_mask"] * batch["tool_mask"]).bool()
        told = batch["completion_mask"].bool() & ~learned
        texts = [tokenizer.decode(ids[mask]) for ids, mask in zip(batch["completion_ids"], learned, strict=True)]
        assert texts[0] == "".join(f"{text}<|im_end|>" for text in (call(WRONG), call(RIGHT), "Good."))
        for ids, mask in zip(batch["completion_ids"], told, strict=True):
            words = tokenizer.decode(ids[mask])
            assert "Attempts left: 4." in words and "submit_answer" not in words
        # One of two is right: advantages of opposite sign.
        assert torch.sign(batch["advantages"]).tolist() == [1.0, -1.0]
        row = trainer.state.log_history[0]
        assert row["rewards/GeneralPointsTurns/mean"] == 0.5 and row["demonstrations/tokens"] > 50

        shown = trainer.demonstrations.sample(1)[0]
        text = tokenizer.decode(shown["demonstration_completion_ids"])
        assert "<tool_call>" in text and '\\"formula\\"' in text and text.endswith("<|im_end|>")
        assert HINT.strip() in tokenizer.decode(shown["demonstration_prompt_ids"])
