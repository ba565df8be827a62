"""GRU language models (Cho et al. 1406.1078), in the sizes of Zaremba's LSTMs."""

from __future__ import annotations

from seedbed.models.families.lstm import recurrent_family

FAMILY = recurrent_family("gru")
