"""Stage 4: go on from the pretrained model by reinforcement learning."""

import os
from typing import NamedTuple

import torch

from rlseq2seq.config.base import load
from rlseq2seq.config.finetune import FinetuneConfig
from rlseq2seq.config.runtime import RuntimeConfig
from rlseq2seq.data.batches import BatchOrder, in_length_order, make_batch
from rlseq2seq.data.store import TokenStore
from rlseq2seq.data.vocabulary import Vocabulary
from rlseq2seq.models.critic import ActionCritic
from rlseq2seq.models.pointer_model import PointerModel
from rlseq2seq.models.saved import load_model, save_model
from rlseq2seq.objectives.fine_tuning import FineTuning
from rlseq2seq.objectives.loss import Loss
from rlseq2seq.objectives.setting import Setting
from rlseq2seq.rewards.reward import WeightedReward
from rlseq2seq.training.checkpoints import Checkpoints, Progress
from rlseq2seq.training.device import find_device, set_up_device
from rlseq2seq.training.history import write_history
from rlseq2seq.training.loop import Plan, train
from rlseq2seq.training.validation import validation_scores
from stages.common import MLE, REPORTS, RL, TOKENS, run, written_whole
from stages.resumable import run_folder


class FineTuned(NamedTuple):
    """``critic`` is one that can guide decoding, if there is any, as it was at the end: the longer it learned, the
    more it knows, though the best model may be an earlier one."""

    model: PointerModel
    vocabulary: Vocabulary
    critic: ActionCritic | None
    progress: Progress


def main() -> None:
    config, runtime = load(FinetuneConfig, "finetune"), load(RuntimeConfig, "runtime")
    device = set_up_device(runtime)
    with run_folder("finetune") as folder:
        model, vocabulary, critic, progress = fine_tune(config, runtime, device, Checkpoints(folder))
        with written_whole(RL) as output:
            save_model(output, model, vocabulary, critic)
        write_history(REPORTS / "finetune.csv", progress.history)


def fine_tune(
    config: FinetuneConfig, runtime: RuntimeConfig, device: torch.device, checkpoints: Checkpoints
) -> FineTuned:
    """The pretrained model, trained on as ``config`` says and left with its best weights.

    Raises:
        UserError: as `train`, or the model, the reward or the data is not what it must be.
    """
    model, vocabulary = load_model(MLE, device)
    if config.reinforces:
        # Dropout would make the policy that is trained another one than the policy that is sampled.
        model.dropout.p = 0.0
    pretrained = load_model(MLE, device)[0].eval() if config.kl.weight else None
    critic_device = find_device(config.critic.device, "finetune.critic.device") if config.critic.device else device
    train_store, validation_store = TokenStore(TOKENS, "train"), TokenStore(TOKENS, "validation")
    order = BatchOrder(train_store, config.batch_size, config.seed)
    reward = WeightedReward(vocabulary, config.reward, runtime.workers or os.cpu_count() or 1)

    torch.manual_seed(config.seed)
    limits = vocabulary.config.max_source_tokens, vocabulary.config.max_target_tokens
    fine_tuning = FineTuning(Setting(model, pretrained, reward, *limits, device, critic_device), config)

    def objective(step: int) -> Loss:
        return fine_tuning(make_batch(train_store, order.rows(step // config.updates_per_batch), device), step)

    def validate() -> dict[str, float]:
        scores = validation_scores(model, vocabulary, validation_store, config.validation, device)
        torch.manual_seed(config.seed)
        return scores | fine_tuning.held_out(
            make_batch(validation_store, rows, device)
            for rows in in_length_order(validation_store, config.validation.pairs, config.batch_size)
        )

    progress = train(
        model, objective, validate, _plan(config, runtime), checkpoints, fine_tuning.state, fine_tuning.optimizers
    )
    critic = fine_tuning.critic if isinstance(fine_tuning.critic, ActionCritic) else None
    return FineTuned(model, vocabulary, critic, progress)


def _plan(config: FinetuneConfig, runtime: RuntimeConfig) -> Plan:
    return Plan(
        name="finetune",
        seed=config.seed,
        steps=config.updates,
        learning_rate=config.learning_rate,
        optimizer=config.optimizer,
        validation=config.validation,
        coverage_from=config.coverage.from_step,
        validate_start=True,
        # Between batches: the samples of one are not kept.
        checkpoint_every=-(-runtime.checkpoint_every // config.updates_per_batch) * config.updates_per_batch,
        log_interval=runtime.log_interval,
    )


if __name__ == "__main__":
    run(main)
