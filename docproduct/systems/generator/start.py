"""What a training starts from: checked rows, and the model before its first step."""

import dataclasses

from data_pipeline import splits
from data_pipeline.folders.token_folder import LANGUAGE_MODEL, TokenFolder
from data_pipeline.prompts.answer_prompts import PromptSettings
from docproduct.layers.lora import LoraSettings
from docproduct.layers.precision import dtype_policy
from docproduct.systems.generator.adapter import AdaptedGenerator
from docproduct.systems.generator.config import GeneratorTraining
from docproduct.systems.generator.folder import TrainedGenerator


def training_rows(config: GeneratorTraining) -> TokenFolder:
    """Returns the token folder.

    Raises:
      ValueError: it has no rows to train on, or none to evaluate with.
    """
    folder = TokenFolder(config.tokens_dir)
    for split in (splits.TRAIN, splits.DEV):
        if not folder.num_rows(split):
            raise ValueError(
                f"{folder.path} has no {split} rows. Make it again, of more pairs or texts, or with another "
                "--dev_share: of data_pipeline.prepare for pairs, of train_gpt2.py for texts."
            )
    return folder


def start(config: GeneratorTraining, folder: TokenFolder) -> TrainedGenerator:
    """Returns the untrained generator, with markers in its vocabulary if it is to answer.

    Raises:
      ValueError: the model and the token folder do not fit together.
    """
    prompt = None if folder.rows == LANGUAGE_MODEL else PromptSettings(**folder.manifest["settings"]["prompt"])
    generator = _from_folder(config, folder, prompt) if config.base_dir else _random(config, folder, prompt)
    if folder.window() > generator.decoder.config.max_positions:
        raise ValueError(
            f"{folder.path} was made for a window of {folder.window()} tokens; this model has "
            f"{generator.decoder.config.max_positions} positions. Make it again with a smaller --window."
        )
    return generator


def _from_folder(config: GeneratorTraining, folder: TokenFolder, prompt: PromptSettings | None) -> TrainedGenerator:
    """Returns the model of `base_dir`, whose vocabulary the token folder must have."""
    policy, seed = dtype_policy(config.settings.precision, training=True), config.settings.seed
    generator = TrainedGenerator.load(config.base_dir, policy, seed, config.dropout)
    if prompt and generator.chat_template:
        generator.prompt = prompt
    elif prompt:
        generator = _with_markers(generator, prompt, config)
    if generator.tokenizer.fingerprint != folder.tokenizer().fingerprint:
        raise ValueError(
            f"{folder.path} was made with another vocabulary than that of {config.base_dir}. Make it again with "
            "that one."
        )
    return adapted(generator, config.lora, config.adapter_dir, seed) if config.lora.rank else generator


def adapted(
    generator: TrainedGenerator, settings: LoraSettings, adapter_dir: str | None, seed: int
) -> AdaptedGenerator:
    """Returns the generator with a new adapter, or with that of `adapter_dir`.

    Raises:
      ValueError: the adapter there has other settings, or was trained on another model.
    """
    if not adapter_dir:
        return AdaptedGenerator.adapt(generator, settings, generator.decoder.dtype_policy.name, seed)
    result = AdaptedGenerator.load_on(generator, adapter_dir)
    if result.settings != settings:
        raise ValueError(
            f"The adapter in {adapter_dir} has {result.settings}; received {settings}. Give equal "
            "--lora_rank, --lora_alpha and --lora_targets."
        )
    result.prompt = generator.prompt
    return result


def _with_markers(generator: TrainedGenerator, prompt: PromptSettings, config: GeneratorTraining) -> TrainedGenerator:
    """Returns the generator with the markers of prompts in its vocabulary."""
    result = generator.with_markers(
        prompt, dtype_policy(config.settings.precision, training=True), config.settings.seed
    )
    if config.lora.rank and result.tokenizer.fingerprint != generator.tokenizer.fingerprint:
        raise ValueError(
            f"{config.base_dir} has no chat template and no markers of prompts, and an adapter cannot learn the "
            "embeddings of new markers. Leave --lora_rank out, or train on top of a model with markers."
        )
    return result


def _random(config: GeneratorTraining, folder: TokenFolder, prompt: PromptSettings | None) -> TrainedGenerator:
    """Returns a model with random weights."""
    tokenizer = folder.tokenizer()
    sizes = dataclasses.replace(config.random_gpt2, vocab_size=tokenizer.vocab_size)
    sizes = sizes if config.dropout is None else sizes.with_dropout(config.dropout)
    policy = dtype_policy(config.settings.precision, training=True)
    return TrainedGenerator.make(sizes, tokenizer, config.settings.seed, policy, prompt)
