"""``fairseq-hydra-train`` with the examples of speech."""

from ..plugin.hydra_runs import require_same_training

S2T_FLAGS = (
    "--lr", 0.002, "--lr-scheduler", "inverse_sqrt", "--warmup-updates", 10000, "--clip-norm", 10,
    "--share-decoder-input-output-embed",
)  # fmt: skip
VGG_FLAGS = ("--lr", 0.0001, "--clip-norm", 10)


def test_features_have_the_numbers_of_the_flags(workspace, tmp_path):
    require_same_training(
        "distill_speech_to_text", workspace.tables, workspace.teachers, tmp_path, 2000, S2T_FLAGS,
        "dataset.train_subset=train", "dataset.valid_subset=valid",
    )  # fmt: skip


def test_audio_has_the_numbers_of_the_flags(workspace, tmp_path):
    # no argument names the task or the model, by which fairseq-train imports fairseq's example
    require_same_training(
        "distill_speech_recognition", workspace.lists, workspace.vgg_teachers, tmp_path, 2000,
        VGG_FLAGS,
    )  # fmt: skip
