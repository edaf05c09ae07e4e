"""Analyses of what happens inside blocks, by hand: of `gpt_oss`, whose parts have plain names."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pandas as pd
import pytest
import torch
from explain.by_hand import Hand, accuracy
from torch import Tensor

LAYER = 1
BLOCK_CHECKS: dict[str, Callable[[Any, pd.DataFrame], None]] = {}
