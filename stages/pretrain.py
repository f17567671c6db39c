"""Stage 3: train by maximum likelihood."""

import torch

from rlseq2seq.config.base import load
from rlseq2seq.config.model import ModelConfig
from rlseq2seq.config.pretrain import PretrainConfig
from rlseq2seq.config.runtime import RuntimeConfig
from rlseq2seq.data.batches import BatchOrder, make_batch
from rlseq2seq.data.store import TokenStore
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.data.word_vectors import WordVectors, load_word_vectors
from rlseq2seq.errors import UserError
from rlseq2seq.models.pointer_model import PointerModel
from rlseq2seq.models.saved import new_model, save_model
from rlseq2seq.objectives.exposure_bias import decoder_inputs
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.objectives.maximum_likelihood import maximum_likelihood
from rlseq2seq.training.checkpoints import Checkpoints
from rlseq2seq.training.device import set_up_device
from rlseq2seq.training.history import write_history
from rlseq2seq.training.loop import Plan, train
from rlseq2seq.training.validation import validation_scores
from stages.common import MLE, REPORTS, TOKENS, run, written_whole
from stages.resumable import run_folder


def main() -> None:
    config, runtime = load(PretrainConfig, "pretrain"), load(RuntimeConfig, "runtime")
    device = set_up_device(runtime)
    vocabulary = Vocabulary.load(TOKENS)
    torch.manual_seed(config.seed)
    model = new_model(load(ModelConfig, "model"), len(vocabulary), vocabulary.config).to(device)
    word_vectors = load_word_vectors(TOKENS)
    if word_vectors is not None:
        start_from(word_vectors, model)
    train_store, validation_store = TokenStore(TOKENS, "train"), TokenStore(TOKENS, "validation")
    order = BatchOrder(train_store, config.batch_size, config.seed)

    def objective(step: int) -> Loss:
        batch = make_batch(train_store, order.rows(step), device)
        memory = model.encode(batch.sources, batch.source_lengths)
        inputs = decoder_inputs(model, memory, batch.targets, step, config.exposure_bias)
        return maximum_likelihood(model, memory, batch, config.coverage.weight, inputs, config.label_smoothing)

    def validate() -> dict[str, float]:
        return validation_scores(model, vocabulary, validation_store, config.validation, device)

    plan = Plan(
        name="pretrain",
        seed=config.seed,
        steps=config.epochs * order.batches_per_epoch,
        learning_rate=config.learning_rate,
        optimizer=config.optimizer,
        validation=config.validation,
        coverage_from=config.coverage.from_step,
        validate_start=False,
        checkpoint_every=runtime.checkpoint_every,
        log_interval=runtime.log_interval,
        average=config.weight_average,
    )
    with run_folder("pretrain") as folder:
        progress = train(model, objective, validate, plan, Checkpoints(folder))
        with written_whole(MLE) as output:
            save_model(output, model, vocabulary)
        write_history(REPORTS / "pretrain.csv", progress.history)


def start_from(vectors: WordVectors, model: PointerModel) -> None:
    """Give the pieces that ``vectors`` have these embeddings; the others keep theirs.

    Raises:
        UserError: they are of another size than the model's.
    """
    size = vectors.vectors.shape[1]
    if size != model.config.embedding_size:
        raise UserError(
            f"model.embedding_size is {model.config.embedding_size}: must be {size}, the size of the vectors that "
            "tokenization.word_vectors names"
        )
    table = model.embedding.weight.detach()
    table[torch.from_numpy(vectors.ids).to(table.device)] = torch.from_numpy(vectors.vectors).to(table)


if __name__ == "__main__":
    run(main)
