"""Measures what int8 matrix products would gain for the encoder.

    pip install onnx onnxruntime
    python -m benchmarks.int8 --encoder_dir=ENCODER --beir_dir=beir/dev

Builds the encoder as an ONNX graph, with float32 and with int8 products: weights are quantized by column, activations
by tensor at run time (ONNX Runtime's DynamicQuantizeMatMul). All encode the same documents in turn, and then each ranks
them for the queries. Prints tokens per second, the lowest cosine with our vectors in float32, and nDCG@10. Ends with
one line of JSON. This is a study: the library itself does not quantize the encoder.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import app, flags

try:
    import onnx
    import onnxruntime
except ImportError as error:
    raise ImportError("This benchmark needs ONNX Runtime. Install it: pip install onnx onnxruntime") from error

from benchmarks import measuring
from data_pipeline import batches, beir
from docproduct import evaluate
from docproduct.layers.bert import Bert
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.folder import BATCH_TOKENS
from docproduct.training.devices import set_up

_CONTRIB = "com.microsoft"
_NDCG = "nDCG@10"

Encode = Callable[[np.ndarray], np.ndarray]  # [B, T] ids -> [B, D] unit vectors


@dataclasses.dataclass
class Graph:
    """An ONNX graph under construction: nodes and constants, named by number."""

    nodes: list[Any] = dataclasses.field(default_factory=list)
    constants: list[Any] = dataclasses.field(default_factory=list)

    def constant(self, value: Any) -> str:
        """Adds a constant; returns its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
        """Adds a node; returns the name of its output, or the names of its outputs."""
        names = [f"n{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(onnx.helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def dense(self, x: str, layer: Any, quantized: bool, bias: bool = True) -> str:
        """Adds the product with a dense layer's kernel, and its bias if asked to."""
        kernel, shift = (weight.numpy() for weight in layer.weights)
        if not quantized:
            x = self.node("MatMul", [x, self.constant(kernel)])
            return self.node("Add", [x, self.constant(shift)]) if bias else x
        scale = np.abs(kernel).max(axis=0) / 127  # [columns]
        integers = np.round(kernel / scale).astype(np.int8)
        inputs = [integers, scale, np.zeros(len(scale), np.int8), *([shift] if bias else [])]
        return self.node("DynamicQuantizeMatMul", [x, *map(self.constant, inputs)], domain=_CONTRIB)

    def add_and_norm(self, x: str, states: str, layer: Any, norm: Any) -> str:
        """Adds layer normalization of states + x + the dense layer's bias."""
        inputs = [norm.gamma.numpy(), norm.beta.numpy(), layer.weights[1].numpy()]
        inputs = [x, states, *map(self.constant, inputs)]
        return self.node("SkipLayerNormalization", inputs, domain=_CONTRIB, epsilon=norm.epsilon)


def onnx_encoder(bert: Bert, quantized: bool, threads: int) -> Encode:
    """Returns the encoder with mean pooling, built from ONNX Runtime's fused operators."""
    graph, config = Graph(), bert.config
    real = graph.node("Not", [graph.node("Equal", ["ids", graph.constant(np.int32(config.pad_id))])])
    mask = graph.node("Cast", [real], to=onnx.TensorProto.FLOAT)  # [B, T]
    first_axis = graph.constant(np.array([1]))
    integers = graph.node("Cast", [real], to=onnx.TensorProto.INT32)
    lengths = graph.node("ReduceSum", [integers, first_axis], keepdims=0)  # [B]
    positions = bert.position_embedding.embeddings.numpy() + bert.segment_embedding.embeddings.numpy()[:1]
    zero = graph.constant(np.array([0]))
    longest = graph.node("Shape", ["ids"], start=1, end=2)
    positions = graph.node("Slice", [graph.constant(positions), zero, longest, zero])
    tokens = graph.node("Gather", [graph.constant(bert.token_embedding.embeddings.numpy()), "ids"])
    norm = [graph.constant(weight.numpy()) for weight in (bert.embedding_norm.gamma, bert.embedding_norm.beta)]
    states = graph.node("Add", [tokens, positions])
    states = graph.node("LayerNormalization", [states, *norm], axis=-1, epsilon=config.norm_epsilon)
    for layer in bert.layers:
        attention, network = layer.attention, layer.feed_forward
        qkv = graph.dense(states, attention.query_key_value, quantized)
        qkv = graph.node("Split", [qkv], outputs=3, axis=-1, num_outputs=3)
        heads = {"num_heads": config.num_heads}
        mixed = graph.node("MultiHeadAttention", [*qkv, "", lengths], domain=_CONTRIB, **heads)
        mixed = graph.dense(mixed, attention.output_projection, quantized, bias=False)
        states = graph.add_and_norm(mixed, states, attention.output_projection, layer.attention_norm)
        inner = graph.dense(states, network.inner, quantized, bias=False)
        shift = graph.constant(network.inner.weights[1].numpy())
        inner = graph.node("BiasGelu", [inner, shift], domain=_CONTRIB)
        inner = graph.dense(inner, network.output_projection, quantized, bias=False)
        states = graph.add_and_norm(inner, states, network.output_projection, layer.feed_forward_norm)
    weights = graph.node("Unsqueeze", [mask, graph.constant(np.array([2]))])
    total = graph.node("ReduceSum", [graph.node("Mul", [states, weights]), first_axis], keepdims=0)
    mean = graph.node("Div", [total, graph.node("ReduceSum", [mask, first_axis])])
    result = graph.node("LpNormalization", [mean], axis=-1, p=2)
    ids = onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT32, ["B", "T"])
    vectors = onnx.helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, ["B", config.width])
    versions = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid(_CONTRIB, 1)]
    onnx_graph = onnx.helper.make_graph(graph.nodes, "bert", [ids], [vectors], graph.constants)
    model = onnx.helper.make_model(onnx_graph, opset_imports=versions, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"ids": batch})[0]


def main(argv: list[str]) -> None:
    """Measures speed and quality of all contestants."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    values = flags.FLAGS
    set_up()
    data = beir.read(values.beir_dir, beir.default_split(values.beir_dir))
    retriever = TrainedRetriever.load_for_many(values.encoder_dir, "float32")
    if retriever.config.pooling != "mean":
        raise app.UsageError(f"--encoder_dir pools by {retriever.config.pooling}; expected mean.")
    threads = values.threads
    contestants = {
        "docproduct float32": lambda ids: retriever._encode["answer"](ids)[1].numpy(),
        "ONNX Runtime float32": onnx_encoder(retriever.model.bert, False, threads),
        "ONNX Runtime int8": onnx_encoder(retriever.model.bert, True, threads),
    }
    tokenizer, longest = retriever.tokenizer, min(values.max_tokens, retriever.config.max_tokens)
    documents, qrels = evaluate.merge_equal_documents(data)
    texts = {"documents": list(documents.values()), "queries": list(data.queries.values())}
    ids = {name: tokenizer.encode(of_name, longest) for name, of_name in texts.items()}
    sample = ids["documents"][: values.count]

    def encode(function: Encode, rows: Any) -> np.ndarray:
        vectors = np.empty((rows.shape[0], retriever.config.width), np.float32)
        for positions, batch in batches.length_sorted(rows, BATCH_TOKENS, tokenizer.pad_id):
            vectors[positions] = function(batch)
        return vectors

    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for round_number in range(values.rounds + 1):
        for name, function in contestants.items():
            start = time.perf_counter()
            encode(function, sample)
            if round_number:  # the first warms up
                speeds[name].append(int(sample.flat_values.shape[0]) / (time.perf_counter() - start))
    measuring.show(f"Encoding {sample.shape[0]} documents", [(name, speeds[name], "tokens/s") for name in speeds])
    medians = {name: float(np.median(rates)) for name, rates in speeds.items()}
    ours = next(iter(contestants))
    metrics = []
    reference = {}
    for name, function in contestants.items():
        vectors = {side: encode(function, rows) for side, rows in ids.items()}
        reference = reference or vectors
        cosine = min(float(np.sum(vectors[side] * reference[side], axis=1).min()) for side in vectors)
        scores = evaluate.measure(name, documents, qrels, vectors["queries"] @ vectors["documents"].T)
        print(f"{name:22s} lowest cosine {cosine:.4f}  {_NDCG} {scores[_NDCG]:.4f}  RR@10 {scores['RR@10']:.4f}")
        short = name.lower().replace(" ", "_")
        metrics.append(
            measuring.metric(f"tokens_per_s_{short}", "tokens/s", medians[name], {ours: medians[ours]}, ours)
        )
        metrics.append(measuring.metric(f"lowest_cosine_{short}", "cosine", cosine))
        metrics.append(measuring.metric(f"ndcg10_{short}", _NDCG, scores[_NDCG]))
    measuring.finish("int8", ["tensorflow", "onnxruntime"], metrics)


if __name__ == "__main__":
    flags.DEFINE_string("encoder_dir", None, "Encoder with mean pooling, without heads.", required=True)
    flags.DEFINE_string("beir_dir", None, "Documents, queries and judgments.", required=True)
    flags.DEFINE_integer("max_tokens", 256, "Texts are cut at this many tokens.")
    flags.DEFINE_integer("count", 512, "Number of documents to time.")
    flags.DEFINE_integer("rounds", 3, "Number of measured rounds.")
    flags.DEFINE_integer("threads", 2, "Threads of ONNX Runtime.")
    app.run(main)
