"""GPT-2s that attend to an encoder: any GPT-2 with new cross-attention, or a small one with random weights."""

import dataclasses

import numpy as np

from data_pipeline.settings import Settings, setting
from data_pipeline.tokenizers import CausalTokenizer
from docproduct.layers import checkpoints
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems.generator.folder import TrainedGenerator

_NEW = "/cross_attention"  # in the names of the new variables
_OUTPUT = "/cross_attention/output/"


@dataclasses.dataclass(frozen=True)
class SmallDecoder(Settings):
    """Sizes of a decoder with random weights; the help beside each field says what it means."""

    width: int = setting(256, "Width of the states.", least=2)
    num_layers: int = setting(4, "Transformer layers.", least=1)
    num_heads: int = setting(4, "Heads, which divide the width.", least=1)
    max_positions: int = setting(256, "Longest text in tokens.", least=2)

    def make(
        self, tokenizer: CausalTokenizer, encoder_width: int, seed: int, dtype: str, dropout: float | None = None
    ) -> TrainedGenerator:
        """Returns a GPT-2 of these sizes with random weights.

        Args:
          tokenizer: of what it writes.
          encoder_width: width of the encoder's states that it attends to.
          seed: of weights and dropout.
          dtype: Keras dtype policy.
          dropout: its rate; default: GPT-2's.
        """
        config = GPT2Config(
            **dataclasses.asdict(self),
            vocab_size=tokenizer.vocab_size,
            cross_attention=True,
            encoder_width=encoder_width,
        )
        config = config if dropout is None else config.with_dropout(dropout)
        return TrainedGenerator.make(config, tokenizer, seed, dtype)


def with_cross_attention(
    generator: TrainedGenerator, encoder_width: int, seed: int = 0, dtype: str = "float32"
) -> TrainedGenerator:
    """Returns a GPT-2 with the same weights that attends to the states of an encoder.

    The output of the cross-attention begins as zero, so that the model begins as the plain GPT-2 exactly; its queries,
    keys and values are random, and learn as soon as the output has.

    Args:
      generator: a GPT-2; one that attends to an encoder of this width already is returned as it is.
      encoder_width: width of the encoder's states.
      seed: of the random weights and of dropout.
      dtype: Keras dtype policy.

    Raises:
      ValueError: it is no GPT-2, or attends to an encoder of another width.
    """
    config = generator.decoder.config
    if not isinstance(config, GPT2Config):
        raise ValueError(f"The decoder is a {config.architecture}; expected a GPT-2, which can attend to an encoder.")
    if generator.encoder_width:
        if generator.encoder_width != encoder_width:
            raise ValueError(
                f"The decoder attends to states of width {generator.encoder_width}; this encoder's have width "
                f"{encoder_width}. Give the encoder that it was trained with, or a GPT-2 without cross-attention."
            )
        return generator
    config = dataclasses.replace(config, cross_attention=True, encoder_width=encoder_width)
    result = TrainedGenerator.make(config, generator.tokenizer, seed, dtype, generator.prompt)
    old = {name: variable.numpy() for name, variable in checkpoints.variables_by_name(generator.decoder).items()}
    new = {
        name: np.zeros(variable.shape, np.float32) if _OUTPUT in name else variable.numpy()
        for name, variable in checkpoints.variables_by_name(result.decoder).items()
        if _NEW in name
    }
    checkpoints.assign(result.decoder, old | new, "the GPT-2 without cross-attention")
    return result
