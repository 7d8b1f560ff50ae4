"""Makes choice_scores.json: what lm-evaluation-harness says of given log-likelihoods.

    pip install lm_eval==0.4.13
    python -m tests.golden.make_choice_scores

Run it in an environment of its own, from the top of the project.
"""

import json
import math
import os
import tempfile

import lm_eval
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

QUESTIONS = [
    ("What helps?", ["rest", "a long walk in the evening", "été"], 2),
    ("Which one?", ["ß", "ss", "sharp s", "none"], 0),
    ("How many?", ["two", "three or four", "eleven"], 1),
    ("Where?", ["心臓", "heart", "in the heart"], 0),
    ("When?", ["now", "later", "never at all", "naïve"], 3),
    ("Who?", ["the doctor", "a nurse"], 1),
    ("Why?", ["because of the fever", "by chance", "fièvre élevée"], 2),
    ("What else?", ["nothing", "œdème", "oedema of the lungs"], 1),
]
TASK = {
    "task": "exam",
    "dataset_path": "json",
    "test_split": "train",
    "output_type": "multiple_choice",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_choice": "choices",
    "doc_to_target": "gold",
    "metric_list": [{"metric": name} for name in ("acc", "acc_norm", "acc_bytes")],
}


class Table(LM):
    """Log-likelihoods that make the three metrics disagree."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def loglikelihood(self, requests):
        answers = []
        for request in requests:
            prompt, choice = request.args
            value = -0.9 * len(choice) ** 0.8 - 4 * abs(math.sin(5 * len(prompt) + sum(map(ord, choice))))
            self.asked.append([prompt, choice, value])
            answers.append((value, False))
        return answers

    def loglikelihood_rolling(self, requests):
        raise NotImplementedError

    def generate_until(self, requests):
        raise NotImplementedError


def main():
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "exam.jsonl"), "w") as lines:
            lines.writelines(
                json.dumps({"question": question, "choices": choices, "gold": gold}) + "\n"
                for question, choices, gold in QUESTIONS
            )
        task = TASK | {"dataset_kwargs": {"data_files": os.path.join(folder, "exam.jsonl")}}
        model = Table()
        results = lm_eval.simple_evaluate(model, tasks=[task], task_manager=TaskManager(include_defaults=False))
    scores = {name.split(",")[0]: value for name, value in results["results"]["exam"].items() if "," in name}
    content = {"version": lm_eval.__version__, "questions": QUESTIONS, "asked": model.asked, "scores": scores}
    with open(os.path.join(os.path.dirname(__file__), "choice_scores.json"), "w") as output:
        json.dump(content, output, ensure_ascii=False, indent=1)
        output.write("\n")


if __name__ == "__main__":
    main()
