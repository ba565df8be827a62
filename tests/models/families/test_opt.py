"""OPT."""

import pytest
from tests.models.reference import tiny

from seedbed.base.errors import BundleError
from seedbed.models.network import family, preset

CASES = {
    "opt": tiny("opt", num_heads=4, max_positions=60),
    "opt narrow, untied": tiny("opt", num_heads=2, d_ff=96, activation="gelu", tie_embeddings=False),
}
COUNTS = {
    "125m": 125_239_296,
    "1.3b": 1_315_758_080,
    "2.7b": 2_651_596_800,
    "6.7b": 6_658_473_984,
    "13b": 12_853_473_280,
    "30b": 29_974_540_288,
    "66b": 65_719_701_504,
    "175b": 174_604_468_224,
}


@pytest.mark.parametrize("refused", [{"word_embed_proj_dim": 512}, {"do_layer_norm_before": False}])
def test_the_350m_is_refused(refused: dict[str, object]) -> None:
    values = family("opt").write_config(preset("opt:125m"))
    with pytest.raises(BundleError, match=f"config.json has {next(iter(refused))}="):
        family("opt").read_config(values | refused)
