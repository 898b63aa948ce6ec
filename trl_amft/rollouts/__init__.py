"""GRPO's segment of a step: prompts in order, rewards and servers that may fail, advantages, and what rollouts say."""
