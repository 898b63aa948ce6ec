"""What a prompt of Countdown asks, and what an answer to it is worth."""

from trl_amft.tasks.countdown_answers import steps_reward


def problem_of(prompt: str) -> tuple[list[int], int]:
    numbers, target = prompt.rstrip(">").split(":")
    return [int(number) for number in numbers.split()], int(target)


def strict_reward(prompt: str, completion: str) -> float:
    numbers, target = problem_of(prompt)
    return steps_reward(completions=[completion], numbers=[numbers], target=[target])[0]
