"""
Demonstrations from imagined conversations, through any endpoint that speaks OpenAI's protocol, such as vLLM's.

    vllm serve Qwen/Qwen2.5-7B-Instruct --port 8000
    python scripts/imagine.py --scenario examples/imagined/twenty_questions.yaml --base_url http://localhost:8000/v1 \
        --model Qwen/Qwen2.5-7B-Instruct --dialogues 1000 --output data/imagined.jsonl

A model invents people, writes dialogues with them and judges how they ended. Each turn of the agent becomes a
demonstration with the outcome as its reward and a weight that follows from it. Answers are kept as they come, so that
a run that was broken off goes on. A key is read from OPENAI_API_KEY.
"""

import sys

from trl_amft.cli.imagine import main


if __name__ == "__main__":
    sys.exit(main(description=__doc__))
