"""Named settings per family. All are ours: the sizes of Yang et al. (2025) are not known to us.

`cpu` is small enough for two cores and large enough for the claims to show. `paper` has the sizes
of the code that the paper builds on, where those were published, and is for a GPU.
"""

from typing import Literal

from taskvectors.learners.config import Curriculum, TrainingConfig
from taskvectors.learners.model import LearnerShape
from taskvectors.learners.variants import VariantsConfig

PresetName = Literal["cpu", "paper"]

# Starts of a width of 64: 1/sqrt(64) for weights, and more for the read-in, so that inputs outweigh
# positions. With GPT-2's 0.02, `offset` and `linear` stay longer on their plateaus.
_SMALL = LearnerShape(n_layers=4, d_model=64, n_heads=4, weight_std=0.125, embedding_std=0.5)
_LARGE = LearnerShape(n_layers=12, d_model=256, n_heads=8)

# Garg et al. (2022): 12 layers, 8 heads, width 256, learning rate 1e-4, batch 64, 500,000 steps,
# dimensions 5 to 20 and points 11 to 41; l* over every second layer, and where both losses begin,
# are our choice
_GARG = TrainingConfig(
    shape=_LARGE,
    steps=500_000,
    tvp_from=250_000,
    batch_size=64,
    learning_rate=1e-4,
    warmup_steps=0,
    clip=None,
    curriculum=Curriculum(every=2_000, dims=(5, 20, 1), demonstrations=(10, 40, 2)),
    checkpoint_every=10_000,
    measure_every=5_000,
)

# Xie et al. (2022): 4 layers, 12 heads, width 768, learning rate 8e-4, warm-up 1,000, batch 8 of
# 1,024 tokens, about 6,250 steps; steps with both losses and l* are our choice
_XIE = TrainingConfig(
    shape=LearnerShape(n_layers=4, d_model=768, n_heads=12),
    steps=12_500,
    tvp_from=6_250,
    batch_size=8,
    learning_rate=8e-4,
    warmup_steps=1_000,
    checkpoint_every=1_000,
    measure_every=625,
)
# Akyürek et al. (2024): 8 layers, 2 heads, width 128, learning rate 5e-4, decay 0.1, batch 32, 200
# epochs of 5,000 instances, 20 of them warm-up; steps with both losses and l* are our choice
_AKYUREK = TrainingConfig(
    shape=LearnerShape(n_layers=8, d_model=128, n_heads=2),
    steps=62_500,
    tvp_from=31_250,
    batch_size=32,
    learning_rate=5e-4,
    weight_decay=0.1,
    warmup_steps=3_125,
    checkpoint_every=5_000,
    measure_every=3_125,
)

PRESETS: dict[tuple[PresetName, str], VariantsConfig] = {
    ("cpu", "ginc"): VariantsConfig(
        task="ginc",
        training=TrainingConfig(
            shape=_SMALL,
            steps=2_000,
            tvp_from=1_000,
            batch_size=32,
            learning_rate=2e-3,
            sites_per_sequence=4,
            measure_every=250,
        ),
    ),
    ("cpu", "regbench"): VariantsConfig(
        task="regbench",
        # strings of one length, so that in a learner with absolute positions each place in a string
        # is always at the same ones: with 3 to 6 letters, what it does in context stays far from
        # the optimum where a vector, whose query begins at position 0, is near it
        settings={"n_train": 20, "strings": (6, 6), "length": (5, 5)},
        training=TrainingConfig(
            shape=_SMALL,
            steps=1_100,
            tvp_from=500,
            batch_size=32,
            learning_rate=2e-3,
            sites_per_sequence=4,
            measure_every=100,
        ),
    ),
    ("paper", "ginc"): VariantsConfig(
        task="ginc",
        settings={
            "n_symbols": 50,
            "n_values": 10,
            "n_slots": 10,
            "n_hmms": 10,
            "n_demonstrations": 102,
            "corpus": "published",
        },
        training=_XIE,
        tvp_layers=(None, 0, 1, 2),
        seeds=(0, 1, 2),
        with_shifts=True,
    ),
    ("paper", "regbench"): VariantsConfig(
        task="regbench",
        settings={
            "states": (4, 12),
            "alphabet": (4, 18),
            "n_letters": 18,
            "n_train": 5000,
            "strings": (10, 19),
            "length": (1, 49),
            "segment_length": 10,
            "corpus": "published",
        },
        training=_AKYUREK,
        tvp_layers=(None, 1, 3, 5),
        seeds=(0, 1, 2),
        with_shifts=True,
    ),
    ("cpu", "offset"): VariantsConfig(
        task="offset",
        settings={"n_symbols": 11, "n_demonstrations": 6},
        training=TrainingConfig(
            shape=_SMALL,
            steps=2_100,
            tvp_from=1_500,
            batch_size=32,
            learning_rate=2e-3,
            measure_every=200,
        ),
    ),
    ("cpu", "linear"): VariantsConfig(
        task="linear",
        settings={"n_dims": 2, "n_demonstrations": 6},
        training=TrainingConfig(
            shape=_SMALL,
            steps=3_000,
            tvp_from=1_200,
            learning_rate=2e-3,
            measure_every=250,
        ),
    ),
    ("cpu", "sinusoidal"): VariantsConfig(
        task="sinusoidal",
        settings={"n_dims": 2, "n_demonstrations": 6},
        training=TrainingConfig(
            shape=_SMALL,
            steps=4_000,
            tvp_from=1_000,
            learning_rate=2e-3,
            measure_every=250,
        ),
    ),
    ("paper", "offset"): VariantsConfig(
        task="offset",
        settings={"n_symbols": 101, "n_demonstrations": 20},
        training=TrainingConfig(
            shape=LearnerShape(n_layers=6, d_model=128, n_heads=4),
            steps=50_000,
            tvp_from=20_000,
            batch_size=256,
            learning_rate=5e-4,
            warmup_steps=1_000,
            checkpoint_every=5_000,
            measure_every=1_000,
        ),
        tvp_layers=(None, 0, 1, 2, 3, 4),
        seeds=(0, 1, 2),
        with_shifts=True,
    ),
    ("paper", "linear"): VariantsConfig(
        task="linear",
        settings={"n_dims": 20, "n_demonstrations": 40},
        training=_GARG,
        tvp_layers=(None, 1, 3, 5, 7, 9),
        seeds=(0, 1, 2),
        with_shifts=True,
    ),
    ("paper", "sinusoidal"): VariantsConfig(
        task="sinusoidal",
        settings={"n_dims": 20, "n_demonstrations": 40},
        training=_GARG,
        tvp_layers=(None, 1, 3, 5, 7, 9),
        seeds=(0, 1, 2),
        with_shifts=True,
    ),
}
"""By preset and family. Its fields are what a run starts from; flags change some of them."""
