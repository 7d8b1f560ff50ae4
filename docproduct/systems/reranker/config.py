"""The settings of a training of the reranker."""

import dataclasses

from data_pipeline.settings import REQUIRED, Settings, setting
from docproduct.systems.reranker.folder import DEPTH
from docproduct.systems.reranker.model import MAX_QUESTION_TOKENS, MAX_TOKENS
from docproduct.training.settings import TrainingSettings


@dataclasses.dataclass(frozen=True)
class RerankerTraining(Settings):
    """Settings of a training; the help beside each field says what it does."""

    prepared_dir: str = setting(REQUIRED, "Prepared folder, written by data_pipeline.prepare.", changes_results=False)
    retriever_dir: str = setting(REQUIRED, "Trained retriever whose hits are reranked.", changes_results=False)
    negatives_dir: str = setting(
        REQUIRED, "Hard negatives of the retriever, written by docproduct.negatives.", changes_results=False
    )
    encoder_dir: str | None = setting(
        None, "Encoder, or trained retriever, to start from; default: retriever_dir.", changes_results=False
    )
    num_negatives: int = setting(7, "Number of hard negatives beside a question's own answer, in each step.", least=1)
    max_tokens: int = setting(MAX_TOKENS, "Maximum tokens of a question with an answer.", least=5)
    max_question_tokens: int = setting(MAX_QUESTION_TOKENS, "Maximum tokens of the question among them.", least=3)
    dropout: float | None = setting(
        None, "Dropout inside encoder and head; default: as the encoder's folder says.", least=0, below=1
    )
    chunk_size: int = setting(
        0, "Questions whose candidates are in memory at once, with the gradients of the whole batch; 0: all.", least=0
    )
    dev_questions: int = setting(200, "Maximum number of dev questions to evaluate with.", least=1)
    dev_train_answers: int = setting(2_000, "Number of train answers among the candidates on dev.", least=0)
    rerank_depth: int = setting(DEPTH, "Number of the retriever's first hits to rerank on dev.", least=2)
    settings: TrainingSettings = TrainingSettings(batch_size=16)
