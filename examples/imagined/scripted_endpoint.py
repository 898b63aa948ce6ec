"""
An endpoint for scripts/imagine.py that needs no model: it answers from a script, the same for the same seed.

    python examples/imagined/scripted_endpoint.py --port 8123 &
    python scripts/imagine.py --scenario examples/imagined/twenty_questions.yaml --base_url http://127.0.0.1:8123/v1 \
        --model scripted --dialogues 400 --weight_temperature 0.25 --output data/imagined.jsonl
    python scripts/train.py --recipe recipes/twenty_questions_tiny.yaml \
        --task_kwargs '{"dialogues": "data/imagined.jsonl"}'
"""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from trl_amft.data import imagination
from trl_amft.tasks.twenty_questions import QUESTIONS, THINGS, script


def reply(messages: list[dict[str, str]], seed: int) -> str:
    """What a model would answer."""
    system, text = (message["content"] for message in messages)
    if system == imagination.INVENTS:
        return json.dumps([f"Somebody with the number {seed % 1000 + offset}." for offset in range(10)])
    if system == imagination.WRITES:
        return imagination.write_dialogue(script(seed, quality=0.5)[0])
    dialogue = imagination.read_dialogue(text.split("\n\n")[1])
    answers = {
        question["content"]: answer["content"] == "yes"
        for question, answer in zip(dialogue[1:-1:2], dialogue[2::2], strict=True)
    }
    fits = THINGS.get(dialogue[-1]["content"]) == tuple(answers.get(question) for question in QUESTIONS)
    return json.dumps({"reward": float(fits), "reason": "The name fits." if fits else "It does not fit."})


class Endpoint(BaseHTTPRequestHandler):
    """One path of OpenAI's protocol."""

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = self.answer(request)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self, request: dict) -> tuple[int, dict]:
        """HTTP status and a chat completion, whose tokens are words."""
        content = reply(request["messages"], request["seed"])
        sent = sum(len(message["content"].split()) for message in request["messages"])
        received = len(content.split())
        message = {"role": "assistant", "content": content}
        return 200, {
            "id": "scripted",
            "object": "chat.completion",
            "created": 0,
            "model": request["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": sent, "completion_tokens": received, "total_tokens": sent + received},
        }

    def log_message(self, *args):
        """Quiet."""


class Server(ThreadingHTTPServer):
    """For many requests at a time."""

    request_queue_size = 128


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8123)
    Server(("127.0.0.1", parser.parse_args().port), Endpoint).serve_forever()
