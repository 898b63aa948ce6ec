"""Invented rows with the columns of published multiple-choice sets."""

CHOICES = {
    "allenai/ai2_arc": {
        "id": "a",
        "question": "Which is a gas?",
        "choices": {"text": ["iron", "oxygen", "salt"], "label": ["1", "2", "3"]},
        "answerKey": "2",
    },
    "Idavidrein/gpqa": {
        "Record ID": "r",
        "Question": "Which is a gas?",
        "Correct Answer": "oxygen\n",
        "Incorrect Answer 1": "iron",
        "Incorrect Answer 2": "salt",
        "Incorrect Answer 3": "sand",
        "High-level domain": "Chemistry",
    },
    "TIGER-Lab/MMLU-Pro": {
        "question_id": 1,
        "question": "Which is a gas?",
        "options": ["iron", "salt", "sand", "gold", "tin", "oxygen", "lead", "zinc", "coal", "wood"],
        "answer": "F",
        "answer_index": 5,
        "category": "chemistry",
        "src": "x",
    },
}
