"""vLLM in server mode: when the client sends weights and asks for rollouts, and what happens without an answer."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
import torch
from fake_server import GENERATE, UPDATE, FakeServer, without_gpu_transfer

import toy
from trl_amft import AMFTTrainer
from trl_amft.rollouts import server as rollout_server
from trl_amft.rollouts.server import GuardedClient, RolloutServerError
from trl_amft.segment_order import SegmentOrder
from trl_amft.two_segment_step import TwoSegmentStep


WORKER = Path(__file__).parent / "server_worker.py"


@pytest.fixture
def sent(monkeypatch):
    """Names of the parameters of each transfer."""
    monkeypatch.setattr(rollout_server, "RETRIES", 1)
    transfers: list[list[str]] = []
    replaced = without_gpu_transfer(transfers)
    for part in replaced:
        part.start()
    yield transfers
    for part in replaced:
        part.stop()


def trainer(folder, server, paired=False, **settings):
    model, tokenizer = toy.model()
    settings = {"max_steps": 5, "meta_window": 1, "sft_warmup_steps": 1, **settings}
    return AMFTTrainer(
        model=model,
        reward_funcs=toy.dense_reward,
        args=toy.config(folder, use_vllm=True, vllm_mode="server", vllm_server_base_url=server.url, **settings),
        train_dataset=toy.paired_set() if paired else toy.prompt_set(),
        eval_dataset=toy.prompt_set(8),
        processing_class=tokenizer,
        demonstration_dataset=None if paired else toy.demonstration_set(),
        validation_dataset=toy.prompt_set(8),
    )


def sequence(server):
    return [{UPDATE: "sync", GENERATE: "generate"}[path] for path in server.order if path in (UPDATE, GENERATE)]


def test_one_transfer_per_step_with_rollouts(tmp_path, sent):
    with FakeServer() as server:
        run = trainer(tmp_path, server)
        run.train()
    assert sequence(server) == ["sync", "generate"] * 4
    assert sent == [[name for name, _ in run.model.named_parameters()]] * 4
    assert run.mixing_callback.policy.updates > 0


def test_validation_rollouts_come_from_the_updated_weights(tmp_path, sent):
    with FakeServer() as server:
        trainer(tmp_path, server, meta_gradient="validation", meta_interval=1).train()
    first, later = ["sync", "generate"], ["sync", "generate", "generate"]
    # After its step the new weights are sent, judged, and used for the next step without another transfer.
    assert sequence(server) == first + later * 3 + ["sync", "generate"]


def test_demonstrations_stay_out_of_the_correction(tmp_path, sent):
    """The metrics of sampling and clipping are those of a run without demonstrations."""
    logs = []
    for policy in ({"mixing_policy": "fixed", "mu_init": 0.0}, {"mixing_policy": "fixed", "mu_init": 0.5}):
        with FakeServer() as server:
            run = trainer(tmp_path, server, max_steps=1, sft_warmup_steps=0, **policy)
            run.train()
        names = [name for name in run.state.log_history[0] if name.startswith(("sampling/", "clip_ratio/", "entropy"))]
        assert len(names) > 5
        logs.append({name: run.state.log_history[0][name] for name in names})
    assert logs[0] == logs[1]


def with_demonstrations_noted(run, answer):
    """Run, with the beginning of every SFT segment told to `answer`."""
    backward_all = run._supervised.backward_all

    def noted(*args):
        answer()
        return backward_all(*args)

    run._supervised.backward_all = noted
    run.train()
    return toy.parameters(run)


@pytest.mark.parametrize("policy", ["amft", "fixed", "srft"])
def test_demonstrations_run_while_the_server_generates(tmp_path, sent, policy, monkeypatch):
    """The server answers only once they do, so that no step could end otherwise."""
    running = threading.Semaphore(0)
    settings = {"mixing_policy": policy, "gradient_accumulation_steps": 2, "ddp_timeout": 20, "sft_warmup_steps": 0}
    with FakeServer(generate=lambda: running.acquire(timeout=10) or pytest.fail("none ran")) as server:
        ahead = with_demonstrations_noted(trainer(tmp_path, server, **settings), running.release)
    monkeypatch.setattr(SegmentOrder, "run_ahead", lambda self: None)
    assert_parameters_of_the_usual_order(ahead, tmp_path, settings)


def assert_parameters_of_the_usual_order(ahead, folder, settings):
    """Call it with `run_ahead` taken away."""
    with FakeServer() as server:
        run = trainer(folder, server, **settings)
        run.train()
    for name, value in toy.parameters(run).items():
        torch.testing.assert_close(ahead[name], value, rtol=1e-4, atol=1e-5)


def test_rollouts_that_come_in_the_middle_of_a_step(tmp_path, sent, monkeypatch):
    """Three micro-batches of rollouts for steps of two: every other time the first of a step is an old one."""
    steps = []
    settings = {"gradient_accumulation_steps": 2, "steps_per_generation": 3, "sft_warmup_steps": 0, "max_steps": 6}
    with FakeServer() as server:
        run = trainer(tmp_path, server, **settings)
        monkeypatch.setattr(TwoSegmentStep, "store_sft_gradient", noted(steps, run, TwoSegmentStep.store_sft_gradient))
        run.train()
    assert steps == [0, 3]
    monkeypatch.setattr(SegmentOrder, "run_ahead", lambda self: None)
    assert_parameters_of_the_usual_order(toy.parameters(run), tmp_path, settings)


def noted(steps, run, method):
    def call(self):
        steps.append(run.state.global_step)
        return method(self)

    return call


def test_requests_of_a_rollout_function_run_no_demonstrations(tmp_path, sent):
    order = []
    with FakeServer() as server:
        run = trainer(tmp_path, server, sft_warmup_steps=0, max_steps=1)

        def rollouts(prompts, trainer):
            answer = trainer.vllm_generation.vllm_client.generate(prompts=[[3, 4]] * len(prompts), n=1)
            order.append("rollouts")
            sampled = [[token[0] for token in row] for row in answer["logprobs"]]
            return {
                "prompt_ids": answer["prompt_ids"],
                "completion_ids": answer["completion_ids"],
                "logprobs": sampled,
            }

        run.rollout_func = rollouts
        with_demonstrations_noted(run, lambda: order.append("demonstrations"))
    assert order == ["rollouts", "demonstrations"]


@pytest.mark.parametrize("policy", ["gate", "variance"])
def test_demonstrations_that_must_wait_for_the_rollouts(tmp_path, sent, policy):
    order = []
    settings = {"mixing_policy": policy, "sft_warmup_steps": 0, "max_steps": 2}
    # Late enough that demonstrations which do not wait come first.
    with FakeServer(generate=lambda: time.sleep(0.5) or order.append("rollouts")) as server:
        run = trainer(tmp_path, server, paired=policy == "gate", **settings)
        with_demonstrations_noted(run, lambda: order.append("demonstrations"))
    assert order == ["rollouts", "demonstrations"] * 2


def test_evaluation_runs_no_demonstrations(tmp_path, sent):
    order = []
    settings = {"eval_strategy": "steps", "eval_steps": 1, "sft_warmup_steps": 0, "max_steps": 2}
    with FakeServer(generate=lambda: order.append("rollouts")) as server:
        run = trainer(tmp_path, server, **settings)
        with_demonstrations_noted(run, lambda: order.append("demonstrations"))
        # As in a step that was broken off before its rollouts.
        run._segments.begin(run.model, None)
        run.evaluate()
    assert order.count("demonstrations") == 2
    assert order.count("rollouts") > 2


def test_pictures_that_the_server_refuses_are_a_failure_as_well():
    """TRL asks for them on the main process alone, before the processes meet again."""

    def die(images):
        raise ConnectionError("gone")

    client = GuardedClient(SimpleNamespace(session=requests.Session(), image_features=die, generate=pytest.fail), 1.0)
    adapter = client.session.get_adapter("http://x")
    assert adapter.max_retries.connect == rollout_server.RETRIES, "TRL's own pool of connections stays"
    client.together = True
    assert client.image_features(["one", "two"]) == [None, None]
    assert client.generate(prompts=[[1], [2]])["completion_ids"] == []
    assert str(client.failure) == "gone"


def test_requests_of_a_rollout_function_fail_by_themselves(tmp_path, sent):
    """Nobody else would ask whether they did, and an empty answer would be trained on."""
    with FakeServer({GENERATE: 0}) as server:
        run = trainer(tmp_path, server, sft_warmup_steps=0, max_steps=2)

        def rollouts(prompts, trainer):
            trainer.vllm_generation.vllm_client.generate(prompts=[[3, 4]] * len(prompts), n=1)
            pytest.fail("the server is gone")

        run.rollout_func = rollouts
        with pytest.raises(requests.exceptions.ConnectionError):
            run.train()
    assert run.vllm_generation.vllm_client.failure is None


@pytest.mark.parametrize("path", [GENERATE, UPDATE])
@pytest.mark.parametrize("how", ["die", "hang"])
def test_a_server_without_an_answer_loses_nothing(tmp_path, sent, path, how):
    started = time.monotonic()
    with FakeServer({path: 2}, how) as server, pytest.raises(RolloutServerError) as error:
        trainer(tmp_path, server, ddp_timeout=2).train()
    assert time.monotonic() - started < 30
    checkpoint = tmp_path / "checkpoint-3"
    message = str(error.value)
    assert message.startswith("step 3: the vLLM server failed (") and "\n" not in message
    assert message.endswith(f"start it again and check its log; resume from {checkpoint}")
    with FakeServer() as server:
        again = trainer(tmp_path, server)
        again.train(resume_from_checkpoint=str(checkpoint))
    assert again.state.global_step == 5
    assert sequence(server) == ["sync", "generate"] * 2


def test_a_busy_server_is_asked_again(tmp_path, sent):
    with FakeServer({GENERATE: 1}, "busy") as server:
        run = trainer(tmp_path, server)
        run.train()
    assert run.state.global_step == 5
    assert server.requests[GENERATE] == 4 + 1


def test_every_process_runs_demonstrations_meanwhile(tmp_path):
    with FakeServer() as server:
        run = start_two(tmp_path, server)
    assert run.returncode == 0, run.stderr[-5000:]
    for rank in (0, 1):
        assert json.loads((tmp_path / f"ahead-{rank}.json").read_text()) == list(range(6))


def start_two(folder, server):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    command = [*launcher, str(WORKER), str(folder), server.url]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("path", [GENERATE, UPDATE])
def test_every_process_stops(tmp_path, path):
    """Under ZeRO-3 every parameter is gathered by all processes, also when nobody takes it."""
    with FakeServer({path: 2}) as server:
        run = start_two(tmp_path, server)
    assert run.returncode != 0
    for rank in (0, 1):
        assert f"[rank{rank}]: trl_amft.rollouts.server.RolloutServerError: step 2: " in run.stderr, run.stderr[-5000:]
    assert (tmp_path / "checkpoint-2" / "trainer_state.json").is_file()
