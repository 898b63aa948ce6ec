"""A checkpoint is whole or not there, whatever ends the run while it is written."""

import json
from types import SimpleNamespace

import pytest

import toy
from trl_amft import AMFTTrainer
from trl_amft.runtime import checkpoints
from trl_amft.runtime.checkpoints import check_world_size


def trainer(folder, **settings):
    model, tokenizer = toy.model()
    settings = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6, "meta_window": 1, **settings}
    return AMFTTrainer(
        model=model,
        reward_funcs=toy.dense_reward,
        args=toy.config(folder, **settings),
        train_dataset=toy.prompt_set(24),
        eval_dataset=toy.prompt_set(4).map(lambda row: {"prompt": "9" + row["prompt"]}),
        processing_class=tokenizer,
        demonstration_dataset=toy.demonstration_set(count=24),
    )


def folders(path):
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir())


class Killed(BaseException):
    pass


@pytest.mark.parametrize("method", ["_save_optimizer_and_scheduler", "_save_rng_state"])
def test_killed_while_saving(tmp_path, monkeypatch, method):
    run = trainer(tmp_path, save_total_limit=1)

    def kill(folder):
        if run.state.global_step == 4:
            raise Killed
        return getattr(AMFTTrainer, method)(run, folder)

    monkeypatch.setattr(run, method, kill)
    with pytest.raises(Killed):
        run.train()
    assert folders(tmp_path) == ["checkpoint-2", "saving"]
    again = trainer(tmp_path, save_total_limit=1)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 6
    assert folders(tmp_path) == ["checkpoint-6"]


def test_killed_before_older_ones_are_deleted(tmp_path, monkeypatch):
    def kill(*args, **kwargs):
        raise Killed

    monkeypatch.setattr("trl_amft.runtime.checkpoints.rotate_checkpoints", kill)
    with pytest.raises(Killed):
        trainer(tmp_path, save_total_limit=1).train()
    assert folders(tmp_path) == ["checkpoint-2"]


def test_one_of_the_same_step_is_replaced(tmp_path):
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / "checkpoint-2" / "leftover").touch()
    trainer(tmp_path).train()
    assert folders(tmp_path) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert not (tmp_path / "checkpoint-2" / "leftover").exists()
    trainer(tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_the_best_one_is_kept_and_loaded(tmp_path):
    settings = {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "reward"}
    run = trainer(tmp_path, load_best_model_at_end=True, save_total_limit=2, **settings)
    values = iter([0.5, 0.9, 0.1])
    run.evaluate = lambda **kwargs: {"eval_reward": next(values, 0.0)}
    run.train()
    assert folders(tmp_path) == ["checkpoint-4", "checkpoint-6"]
    for step in (4, 6):
        state = json.loads((tmp_path / f"checkpoint-{step}" / "trainer_state.json").read_text())
        assert state["best_model_checkpoint"] == str(tmp_path / "checkpoint-4")


def test_the_hub_gets_it_under_its_name(tmp_path, monkeypatch):
    run = trainer(tmp_path, max_steps=2)
    pushed = []
    run.args.push_to_hub = True
    run._push_from_checkpoint = lambda folder: pushed.append((folder, folders(tmp_path)))
    monkeypatch.setattr(run, "_finish_current_push", lambda: None, raising=False)
    run.train()
    assert pushed == [(str(tmp_path / "checkpoint-2"), ["checkpoint-2"])]


@pytest.mark.parametrize("world_size", [2, 4])
def test_shards_of_another_number_of_processes(tmp_path, world_size):
    shards = tmp_path / "checkpoint-2" / "global_step2"
    shards.mkdir(parents=True)
    for rank in range(2):
        (shards / f"bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt").touch()
    args = SimpleNamespace(output_dir=str(tmp_path), world_size=world_size)
    for resume in (True, str(tmp_path / "checkpoint-2")):
        if world_size == 2:
            check_world_size(resume, args, {})
            continue
        with pytest.raises(
            ValueError, match="written by 2 DeepSpeed processes, this run has 4: start as many"
        ) as error:
            check_world_size(resume, args, {"checkpoint": None})
        assert "\n" not in str(error.value) and "checkpoint-2" in str(error.value)
        for settings in ({"load_universal": True}, {"use_node_local_storage": True}):
            check_world_size(resume, args, {"checkpoint": settings})


@pytest.mark.parametrize("shared", [True, False])
def test_a_node_knows_whether_it_sees_the_disk_of_the_main_process(tmp_path, monkeypatch, shared):
    """Of another node's process, which the barrier here lets the main one overtake."""

    def main_process():
        folder = tmp_path / ("own" if shared else "of_main")
        folder.mkdir(exist_ok=True)
        (folder / "token").touch()

    monkeypatch.setattr(checkpoints.uuid, "uuid4", lambda: SimpleNamespace(hex="token"))
    other = SimpleNamespace(is_main_process=False, wait_for_everyone=main_process)
    assert checkpoints._sees_disk_of_main(other, str(tmp_path / "own")) is shared
