"""What a training starts from: the retriever whose hits are reranked, and the reranker before its first step."""

from docproduct.layers import checkpoints
from docproduct.layers.precision import dtype_policy
from docproduct.systems.reranker.config import RerankerTraining
from docproduct.systems.reranker.folder import TrainedReranker
from docproduct.systems.reranker.model import Reranker, RerankerConfig
from docproduct.systems.retriever import TrainedRetriever


def start(config: RerankerTraining, retriever: TrainedRetriever) -> TrainedReranker:
    """Returns the untrained reranker, with the weights of the encoder that it starts from and a new head.

    Raises:
      ValueError: pairs are to be longer than the encoder takes.
    """
    encoder = retriever
    if config.encoder_dir:
        encoder = TrainedRetriever.load(config.encoder_dir)
    bert = encoder.config.bert.with_dropout(config.dropout)
    sizes = RerankerConfig(bert, config.max_tokens, config.max_question_tokens)
    model = Reranker(sizes, config.settings.seed, dtype_policy(config.settings.precision, training=True))
    values = {name: variable.numpy() for name, variable in checkpoints.variables_by_name(encoder.model.bert).items()}
    checkpoints.assign(model.bert, values, config.encoder_dir or config.retriever_dir)
    return TrainedReranker(model, encoder.tokenizer, retriever=retriever.fingerprint())
