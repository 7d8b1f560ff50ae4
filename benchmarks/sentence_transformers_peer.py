"""The peer of the training, encoding and quality benchmarks: sentence-transformers, used as its documentation advises.

    PYTHON benchmarks/sentence_transformers_peer.py train --prepared_dir=prepared --encoder_dir=ENCODER --model_dir=peer

Runs in an interpreter of its own with sentence-transformers, accelerate and datasets, and imports nothing of this
project. `train` runs one epoch of MultipleNegativesRankingLoss in batches without duplicates; an interrupted run
continues from its last checkpoint. `train_speed` and `encode_speed` do a round of work for every line on standard input
(see `measuring.Contestant`) and print a line of JSON.
"""

import argparse
import glob
import json
import os
import sys
import tempfile
import time

import pyarrow.parquet as pq
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
    export_dynamic_quantized_onnx_model,
    losses,
)
from sentence_transformers.sentence_transformer.training_args import BatchSamplers
from transformers import TrainerCallback


def training_pairs(prepared_dir: str) -> Dataset:
    """Returns the texts of a prepared folder's train split, as (anchor, positive)."""
    columns = ["question", "answer"]
    table = pq.read_table(
        os.path.join(prepared_dir, "pairs.parquet"), columns=columns, filters=[("split", "=", "train")]
    )
    return Dataset(table.rename_columns(["anchor", "positive"]))


def trainer(
    prepared_dir: str,
    encoder_dir: str,
    output_dir: str,
    seed: int,
    bfloat16: bool,
    max_tokens: int = 256,
    device: str = "cpu",
    **arguments: object,
) -> SentenceTransformerTrainer:
    """Returns the trainer with the settings of our own runs: warm-up over a tenth of the steps, then linear decay."""
    model = SentenceTransformer(encoder_dir, device=device)
    model.max_seq_length = max_tokens
    settings = SentenceTransformerTrainingArguments(
        output_dir=output_dir,
        num_train_epochs=1,
        learning_rate=5e-5,
        warmup_steps=0.1,  # a number below 1 is a share of all steps
        batch_sampler=BatchSamplers.NO_DUPLICATES,
        use_cpu=device == "cpu",
        bf16=bfloat16,
        seed=seed,
        report_to="none",
        save_steps=10,
        save_total_limit=1,
        logging_steps=10,
        disable_tqdm=True,
        **arguments,
    )
    return SentenceTransformerTrainer(
        model, settings, train_dataset=training_pairs(prepared_dir), loss=losses.MultipleNegativesRankingLoss(model)
    )


def train(
    prepared_dir: str, encoder_dir: str, model_dir: str, seed: int, bfloat16: bool, max_tokens: int, device: str
) -> None:
    """Trains one epoch and writes the model; an unfinished run is continued."""
    checkpoints = f"{model_dir}.checkpoints"
    run = trainer(
        prepared_dir, encoder_dir, checkpoints, seed, bfloat16, max_tokens, device, per_device_train_batch_size=64
    )
    run.train(resume_from_checkpoint=bool(glob.glob(os.path.join(checkpoints, "checkpoint-*"))))
    run.model.save_pretrained(model_dir)


class Rounds(TrainerCallback):
    """Lets the trainer do as many steps as the next line asks for, then prints how long they took."""

    def __init__(self) -> None:
        self._left = 0

    def on_step_begin(self, *_: object, **__: object) -> None:
        """Waits for the next round if the last one is done."""
        if not self._left:
            line = sys.stdin.readline()
            if not line:
                sys.exit(0)
            self._left, self._start = int(line), time.perf_counter()

    def on_step_end(self, *_: object, **__: object) -> None:
        """Ends the round after its last step."""
        self._left -= 1
        if not self._left:
            print(json.dumps({"seconds": time.perf_counter() - self._start}), flush=True)


def train_speed(prepared_dir: str, encoder_dir: str, model_dir: str, bfloat16: bool, batch_size: int) -> None:
    """Trains in rounds; each line of standard input is a number of steps."""
    run = trainer(prepared_dir, encoder_dir, model_dir, 0, bfloat16, per_device_train_batch_size=batch_size)
    run.args.save_strategy = "no"
    run.add_callback(Rounds())
    run.train()


def encoder(encoder_dir: str, bfloat16: bool, int8: bool, backend: str) -> SentenceTransformer:
    """Returns the model in a backend and a precision; OpenVINO computes in the precision that it chooses itself."""
    options = {"torch_dtype": "bfloat16"} if bfloat16 else {}
    model = SentenceTransformer(encoder_dir, device="cpu", backend=backend, model_kwargs=options)
    if int8:
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            export_dynamic_quantized_onnx_model(model, "avx512_vnni", folder)
            file = {"file_name": "onnx/model_qint8_avx512_vnni.onnx"}
            model = SentenceTransformer(folder, device="cpu", backend=backend, model_kwargs=file)
    model.max_seq_length = 256
    return model


def encode_speed(prepared_dir: str, model: SentenceTransformer, bfloat16: bool) -> None:
    """Encodes one round for each line of standard input: side, number of texts, batch size."""
    pairs = training_pairs(prepared_dir)
    for line in sys.stdin:
        side, count, batch_size = line.split()
        texts = pairs["anchor" if side == "question" else "positive"][: int(count)]
        start = time.perf_counter()
        model.encode(texts, batch_size=int(batch_size), convert_to_numpy=not bfloat16, convert_to_tensor=bfloat16)
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


def main() -> None:
    """Runs what the arguments describe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["train", "train_speed", "encode_speed"])
    parser.add_argument("--prepared_dir", required=True)
    parser.add_argument("--encoder_dir", required=True)
    parser.add_argument("--model_dir", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--max_tokens", type=int, default=256, help="longer texts are cut in training")
    parser.add_argument("--backend", default="torch", choices=["torch", "onnx", "openvino"], help="in encoding")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--int8", action="store_true", help="in encoding with onnx: dynamically quantized")
    parser.add_argument("--device", default="cpu", help="in train, such as cuda")
    values = parser.parse_args()
    folders = values.prepared_dir, values.encoder_dir
    if values.task == "train":
        train(*folders, values.model_dir, values.seed, values.bfloat16, values.max_tokens, values.device)
    elif values.task == "train_speed":
        train_speed(*folders, values.model_dir, values.bfloat16, values.batch_size)
    else:
        model = encoder(values.encoder_dir, values.bfloat16, values.int8, values.backend)
        encode_speed(values.prepared_dir, model, values.bfloat16)


if __name__ == "__main__":
    main()
