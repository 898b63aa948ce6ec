"""What models write of imagined conversations, read back."""

import pytest

from trl_amft.data import imagination


class TestReading:
    def test_dialogue(self):
        messages = imagination.read_dialogue("User: hello\nAgent: which one?\nor none\nUser: that\nAgent: there")
        assert [message["role"] for message in messages] == ["user", "assistant"] * 2
        assert messages[1]["content"] == "which one?\nor none"
        assert imagination.read_dialogue(imagination.write_dialogue(messages)) == messages

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "hello",
            "Agent: hello",
            "User: a",
            "User: a\nUser: b\nAgent: c",
            "Sure!\nUser: a\nAgent: b",
            "User:\nAgent: b",
        ],
    )
    def test_no_dialogue(self, text):
        with pytest.raises(ValueError, match="no dialogue in turns|says nothing"):
            imagination.read_dialogue(text)

    def test_judgement(self):
        assert imagination.read_judgement('Well: {"reward": 0.25, "reason": "so {so}"}') == 0.25
        for text in ("", "0.5", '{"reward": 2}', '{"reward": true}', '{"reason": "x"}', "{reward: 1}"):
            with pytest.raises(ValueError, match="no reward"):
                imagination.read_judgement(text)

    def test_people(self):
        assert imagination.read_people('Here: ["a", "b"]') == ["a", "b"]
        for text in ("", "[]", "[1]", '{"a": 1}'):
            with pytest.raises(ValueError, match="no list"):
                imagination.read_people(text)

    def test_system_message_stands_before(self):
        dialogue = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        entry = {"number": 0, "person": "p", "dialogue": dialogue, "reward": 1.0}
        (row,) = imagination.demonstration_rows([entry], "be brief", 1.0, 5.0)
        assert row["prompt"] == [{"role": "system", "content": "be brief"}, dialogue[0]]
