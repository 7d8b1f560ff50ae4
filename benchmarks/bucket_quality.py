"""Measures how length buckets change quality, as they make the negatives of a batch similar in length.

    python -m benchmarks.bucket_quality --prepared_dir=prepared --encoder_dir=ENCODER --work_dir=/tmp/buckets

Trains one epoch for each number of buckets and prints dev metrics, padding and time. One bucket means random
batches, as with fixed padding, plain dynamic padding or micro-batches. Finished trainings in --work_dir are not
repeated, and interrupted ones are resumed. Ends with one line of JSON.
"""

import os

from absl import app, flags

from benchmarks import measuring
from docproduct.systems.retriever.config import RetrieverTraining
from docproduct.systems.retriever.train import train
from docproduct.training.devices import set_up
from docproduct.training.settings import TrainingSettings


def main(argv: list[str]) -> None:
    """Trains the models that are missing, and prints the results of all."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    values = flags.FLAGS
    set_up(values.seed)
    metrics = []
    for num_buckets in map(int, values.num_buckets):
        config = RetrieverTraining(
            values.prepared_dir,
            values.encoder_dir,
            max_tokens=values.max_tokens,
            num_buckets=num_buckets,
            cluster_size=1,
            trained_share=1.0,  # of one epoch's weights, the effect of the batches is seen undiluted
            dev_train_answers=values.dev_train_answers,
            settings=TrainingSettings(seed=values.seed),
        )
        history = train(config, os.path.join(values.work_dir, f"buckets-{num_buckets}"), resume=True)
        last = history["epochs"][-1]
        print(
            f"{num_buckets:3d} buckets: RR@10 {last['RR@10']:.4f}  Success@1 {last['Success@1']:.4f}  "
            f"padding {last['padding_share']:.3f}  {last['seconds']:.0f} s (untrained RR@10 "
            f"{history['epochs'][0]['RR@10']:.4f})"
        )
        metrics.append(measuring.metric(f"dev_rr10_{num_buckets}_buckets", "RR@10", last["RR@10"]))
    measuring.finish("bucket_quality", ["tensorflow", "keras"], metrics)


if __name__ == "__main__":
    flags.DEFINE_string("prepared_dir", None, "Folder that data_pipeline.prepare wrote.", required=True)
    flags.DEFINE_string("encoder_dir", None, "Encoder to start from.", required=True)
    flags.DEFINE_string("work_dir", None, "Folder for the trained models.", required=True)
    flags.DEFINE_list("num_buckets", ["1", "8", "16", "32"], "Numbers of buckets to compare.")
    flags.DEFINE_integer("max_tokens", None, "Maximum tokens of a text.")
    flags.DEFINE_integer("dev_train_answers", 500, "Number of train answers among the candidates of dev.")
    flags.DEFINE_integer("seed", 0, "Random seed of weights, dropout and order.")
    app.run(main)
