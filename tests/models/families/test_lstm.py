"""The LSTM, beside PyTorch's own."""

from typing import Any

from tests.models.reference import tiny
from torch import Tensor, nn


class RecurrentOracle(nn.Module):
    """PyTorch's own network under the names of our bundles."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        network = {"lstm": nn.LSTM, "gru": nn.GRU}[config.cell]
        self.embed = nn.Embedding(config.vocab_size, config.d_model)
        self.rnn = network(config.d_model, config.d_model, config.num_layers, batch_first=True)
        self.unembed = None if config.tie_embeddings else nn.Linear(config.d_model, config.vocab_size)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.rnn(self.embed(ids))[0]
        return hidden @ self.embed.weight.T if self.unembed is None else self.unembed(hidden)


oracle = RecurrentOracle
CASES = {
    "lstm": tiny("lstm"),
    "lstm tied": tiny("lstm", tie_embeddings=True),
}
COUNTS = {
    "small": 4_653_200,
    "medium": 19_780_400,  # Zaremba et al. say 20 and 66 million
    "large": 66_034_000,
}
