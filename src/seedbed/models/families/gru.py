"""GRU language models (Cho et al. 1406.1078), in the sizes of Zaremba's LSTMs."""

from __future__ import annotations

from seedbed.models.families.lstm import recurrent_family

FAMILY = recurrent_family(
    "gru", {"small": (200, 0.0, 0.1), "medium": (650, 0.5, 0.05), "large": (1500, 0.65, 0.04)}
)
