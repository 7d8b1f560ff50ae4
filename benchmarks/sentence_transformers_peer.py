"""The peer of the training, encoding and quality benchmarks: sentence-transformers, used as its documentation advises.

    PYTHON -m benchmarks.sentence_transformers_peer train --prepared_dir=prepared --encoder_dir=ENCODER --model_dir=peer

Runs in an interpreter of its own, with sentence-transformers, accelerate and datasets; nothing of this project is
imported. MultipleNegativesRankingLoss, batches without duplicates, the fast tokenizer, one epoch; goes on from its last
checkpoint when it was interrupted.
"""

import argparse
import glob
import os

import pyarrow.parquet as pq
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    losses,
)
from sentence_transformers.training_args import BatchSamplers


def training_pairs(prepared_dir: str) -> Dataset:
    """Returns the texts of a prepared folder's train split, as (anchor, positive)."""
    columns = ["question", "answer"]
    table = pq.read_table(
        os.path.join(prepared_dir, "pairs.parquet"), columns=columns, filters=[("split", "=", "train")]
    )
    return Dataset(table.rename_columns(["anchor", "positive"]))


def trainer(
    prepared_dir: str, encoder_dir: str, output_dir: str, seed: int, bfloat16: bool, **arguments: object
) -> SentenceTransformerTrainer:
    """Returns the trainer with the settings of our own run: batch 64, 256 tokens, warm-up of a tenth, linear decay."""
    model = SentenceTransformer(encoder_dir, device="cpu")
    model.max_seq_length = 256
    settings = SentenceTransformerTrainingArguments(
        output_dir=output_dir,
        num_train_epochs=1,
        per_device_train_batch_size=64,
        learning_rate=5e-5,
        warmup_ratio=0.1,
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        use_cpu=True,
        bf16=bfloat16,
        seed=seed,
        report_to="none",
        save_steps=25,
        save_total_limit=1,
        logging_steps=25,
        disable_tqdm=True,
        **arguments,
    )
    return SentenceTransformerTrainer(
        model, settings, train_dataset=training_pairs(prepared_dir), loss=losses.MultipleNegativesRankingLoss(model)
    )


def train(prepared_dir: str, encoder_dir: str, model_dir: str, seed: int, bfloat16: bool) -> None:
    """Trains one epoch and writes the model; an unfinished run goes on."""
    checkpoints = f"{model_dir}.checkpoints"
    run = trainer(prepared_dir, encoder_dir, checkpoints, seed, bfloat16)
    run.train(resume_from_checkpoint=bool(glob.glob(os.path.join(checkpoints, "checkpoint-*"))))
    run.model.save_pretrained(model_dir)


def main() -> None:
    """Runs what the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train"])
    parser.add_argument("--prepared_dir", required=True)
    parser.add_argument("--encoder_dir", required=True)
    parser.add_argument("--model_dir", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bfloat16", action="store_true")
    values = parser.parse_args()
    train(values.prepared_dir, values.encoder_dir, values.model_dir, values.seed, values.bfloat16)


if __name__ == "__main__":
    main()
