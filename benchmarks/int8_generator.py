"""What int8 costs a generator: how far its next-token probabilities are from those in float32.

    python -m benchmarks.int8_generator --base_dir=MODEL --input=PAIRS

Both read the same texts, questions and answers in the files of --input, by default the bundled sample. Reports, over
every token of the texts:

    kl                   mean Kullback-Leibler divergence of int8 from float32, in nats
    same_likeliest_token share of the tokens after which both find the same token likeliest
    perplexity_ratio     perplexity of the texts in int8, divided by that in float32

Needs a processor that computes int8 products exactly. Ends with one line of JSON.
"""

import numpy as np
import tensorflow as tf
from absl import app, flags

from benchmarks import measuring
from benchmarks.llama import texts
from docproduct import command, sample
from docproduct.generation.causal_lm import CausalLM
from docproduct.systems import generator


def log_probs(model: CausalLM) -> tf.types.experimental.GenericFunction:
    """Returns a function from token ids, [T], to log-probabilities of the next token, [T, V]."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32)], autograph=False)
    def read(ids: tf.Tensor) -> tf.Tensor:
        states, _ = model.prefill(ids[None], tf.ones([1, tf.size(ids)], tf.bool), tf.size(ids))
        return tf.nn.log_softmax(model.logits(states))[0]

    return read


def main(argv: list[str]) -> None:
    """Measures what the flags describe."""
    values = command.begin(argv)
    with command.errors_on_one_line("nothing was measured."):
        model = generator.load_model(values.base_dir, None)
        in_float32, in_int8 = log_probs(model), log_probs(model.for_export("int8"))
        lengths = [min(values.max_tokens, model.window)] * values.num_texts
        kl, same, nats = [], [], []
        for ids in texts(values.input, model.tokenizer, lengths):
            exact, rounded = (read(tf.constant(ids)).numpy() for read in (in_float32, in_int8))
            kl.append(np.sum(np.exp(exact) * (exact - rounded), axis=-1))  # [T]
            same.append(exact.argmax(axis=-1) == rounded.argmax(axis=-1))
            of_text = np.arange(len(ids) - 1), np.array(ids[1:])
            nats.append(exact[of_text] - rounded[of_text])
    scores = {"kl": np.mean(kl), "same_likeliest_token": np.mean(same), "perplexity_ratio": np.exp(np.mean(nats))}
    units = {"kl": "nats", "same_likeliest_token": "share", "perplexity_ratio": "ratio"}
    measuring.show("int8 beside float32", [(name, [float(value)], units[name]) for name, value in scores.items()])
    metrics = [measuring.metric(name, units[name], float(value)) for name, value in scores.items()]
    measuring.finish("int8_generator", ["tensorflow", "keras"], metrics)


if __name__ == "__main__":
    flags.DEFINE_string("base_dir", None, "Generator: a folder or a GGUF file.", required=True)
    flags.DEFINE_list("input", [sample.PAIRS_FILE], "Files with questions and answers.")
    flags.DEFINE_integer("num_texts", 8, "Number of texts.", lower_bound=1)
    flags.DEFINE_integer("max_tokens", 512, "Tokens of each.", lower_bound=2)
    app.run(main)
