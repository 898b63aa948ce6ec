"""
The SLURM script, with SLURM's commands replaced by ones that start "nodes" as processes of this machine. The launcher,
its rendezvous over two machines, ZeRO-3 and the signals are real.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from torch.distributed.elastic.utils.distributed import get_free_port


ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "recipes" / "slurm" / "train.sbatch"

SRUN = """#!/bin/bash
# Starts the command once per task, and passes SIGTERM on, as srun does.
tasks=1
while [[ $1 == --* ]]; do
    [[ $1 == --ntasks=* ]] && tasks=${1#*=}
    shift
done
for ((node = 0; node < tasks; node++)); do
    SLURM_NODEID=$node "$@" &
done
trap 'kill -TERM $(jobs -p)' TERM
status=0
while [[ -n $(jobs -rp) ]]; do wait -n || status=$?; done
exit $status
"""
SCONTROL = """#!/bin/bash
case $1 in
    show) tr , '\\n' <<<"$3" ;;
    requeue) touch "$RECORDS/requeued" ;;
esac
"""
VLLM = """#!/bin/bash
printf '%s\\n' "VLLM_SERVER_DEV_MODE=$VLLM_SERVER_DEV_MODE" "$@" >"$RECORDS/vllm"
exec sleep 600
"""


@pytest.fixture
def job(tmp_path):
    """Submits the script; the job's log is `log` in the folder."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "vllm": VLLM}.items():
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    environment |= {
        "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RECORDS": str(tmp_path),
        "SLURM_JOB_ID": "1",
        "GPUS_PER_NODE": "1",
        "LAUNCH_OPTIONS": "--config_file recipes/accelerate/zero3_cpu.yaml --deepspeed_multinode_launcher standard "
        f"--main_process_port {get_free_port()}",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    started = []

    def submit(nodes, *arguments, **variables):
        command = [str(SCRIPT), "recipes/math.yaml", "--smoke", "--output_dir", str(tmp_path / "run"), *arguments]
        with (tmp_path / "log").open("w") as log:
            run = subprocess.Popen(
                ["bash", *command],
                cwd=ROOT,
                env=environment | {"SLURM_JOB_NODELIST": ",".join(nodes)} | variables,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        started.append(run)
        return run

    yield submit
    for run in started:
        if run.poll() is None:
            run.terminate()
            run.wait(timeout=60)


def test_two_nodes_train_one_model(job, tmp_path):
    assert job(["localhost"] * 2).wait(timeout=240) == 0, (tmp_path / "log").read_text()[-5000:]
    log = (tmp_path / "log").read_text()
    assert "sharding: DeepSpeed as the launcher says" in log
    assert (tmp_path / "run" / "metrics.json").is_file()
    shards = list((tmp_path / "run").glob("checkpoint-2/global_step2/*_optim_states.pt"))
    assert len(shards) == 2
    assert not (tmp_path / "requeued").exists()


def test_a_job_that_has_to_go_is_saved_and_queued_again(job, tmp_path):
    run = job(["localhost"] * 2, "--max_steps", "500", "--save_strategy", "no", "--eval_strategy", "no")
    deadline = time.monotonic() + 200
    while "sft_loss " not in (log := (tmp_path / "log").read_text()):
        assert run.poll() is None and time.monotonic() < deadline, log[-5000:]
        time.sleep(0.2)
    run.send_signal(signal.SIGTERM)
    run.wait(timeout=90)
    log = (tmp_path / "log").read_text()
    assert "go on with --resume_from_checkpoint auto" in log, log[-5000:]
    assert (tmp_path / "requeued").exists()
    (checkpoint,) = (tmp_path / "run").glob("checkpoint-*")
    assert len(list(checkpoint.glob("global_step*/*_optim_states.pt"))) == 2


def test_the_last_node_serves(job, tmp_path):
    run = job(["localhost", "server-node"], "--use_vllm", "false", SERVER_NODES="1", LAUNCH_OPTIONS="--cpu")
    assert run.wait(timeout=240) == 0, (tmp_path / "log").read_text()[-5000:]
    served = (tmp_path / "vllm").read_text().splitlines()
    assert served[:3] == ["VLLM_SERVER_DEV_MODE=1", "serve", "Qwen/Qwen2.5-Math-7B"]
    assert '{"backend": "nccl"}' in served and "processed_logprobs" in served
    recipe = (tmp_path / "run" / "resolved_recipe.yaml").read_text()
    assert "vllm_mode: server" in recipe and "vllm_server_base_url: http://server-node:8000" in recipe


@pytest.mark.parametrize(
    ("nodes", "gpus", "options", "launcher"),
    [
        (2, 1, "", "multi_gpu"),
        (2, 8, "", "multi_gpu"),
        (1, 8, "", "multi_gpu"),
        (1, 1, "", None),
        (2, 1, "--config_file recipes/accelerate/zero3_cpu.yaml", "use_deepspeed"),
    ],
)
def test_more_than_one_process_has_a_launcher(job, tmp_path, nodes, gpus, options, launcher):
    # One rank after the other: the last to write is as good as any.
    (tmp_path / "bin" / "accelerate").write_text('#!/bin/bash\nprintf "%s\\n" "${@:2}" >"$RECORDS/launched"\n')
    (tmp_path / "bin" / "accelerate").chmod(0o755)
    run = job([f"node-{number}" for number in range(nodes)], GPUS_PER_NODE=str(gpus), LAUNCH_OPTIONS=options)
    assert run.wait(timeout=30) == 0, (tmp_path / "log").read_text()
    given = launch_command_parser().parse_args((tmp_path / "launched").read_text().splitlines())
    assert given.training_script == "scripts/train.py"
    checked, _, _ = _validate_launch_command(given)
    found = {name for name in ("multi_gpu", "use_deepspeed", "use_fsdp", "tpu") if getattr(checked, name)}
    assert found == ({launcher} if launcher else set())
    assert (checked.num_machines, checked.num_processes) == (nodes, nodes * gpus)


@pytest.mark.parametrize(("servers", "said"), [("2", "leaves none of 2 nodes"), ("3", "leaves none of 2 nodes")])
def test_too_many_servers(job, tmp_path, servers, said):
    assert job(["a", "b"], SERVER_NODES=servers).wait(timeout=20) == 2
    assert said in (tmp_path / "log").read_text()
