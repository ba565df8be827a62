"""The architecture of a network as data; a family translates its `config.json` into it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from seedbed.base.errors import ConfigError, nearest

Activation = Literal["relu", "relu_squared", "gelu", "gelu_tanh", "silu"]
NormKind = Literal["layer", "layer_no_bias", "layer_plain", "rms", "rms_plain", "rms_offset"]
NormPlace = Literal["input", "sum"]
Shape = Literal["encoder", "decoder", "encoder-decoder"]
HeadKind = Literal["lm", "mlm", "none", "classification", "tagging"]
LABELLED: tuple[HeadKind, ...] = ("classification", "tagging")
MAX_LABELS = 100_000

LARGEST = 2**62  # of whole numbers: torch ends at 2^63
_NAMES = {
    int: "a whole number below 2^62",
    float: "a finite number",
    bool: "true or false",
    str: "a text",
}


def check_fields(config: Any, **least: int) -> None:
    """Refuse a value of another type than its field's, another word than allowed, or less than `least`."""
    for name, hint in get_type_hints(type(config)).items():
        value = getattr(config, name)
        kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        if not any(_is_a(value, kind) for kind in kinds):
            words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
            allowed = nearest(str(value), words) if words else f"allowed: {_name(kinds[0])}"
            raise ConfigError(f"{name}={value!r} is not allowed; {allowed}")
        if value is not None and name in least and value < least[name]:
            raise ConfigError(f"{name}={value} must be at least {least[name]}")
        if name == "dropout" and not 0 <= value < 1:
            raise ConfigError(f"dropout={value} is not allowed: give a number of 0 or more and below 1")


def _name(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return "a tuple of " + (", ".join(get_args(get_args(kind)[0])) or "texts")
    return _NAMES.get(kind) or f"a {kind.__name__}"


def _is_a(value: object, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is float:
        return isinstance(value, (int, float)) and type(value) is not bool and abs(value) < 1e38
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is_a(one, get_args(kind)[0]) for one in value)
    if kind is int:
        return type(value) is int and abs(value) < LARGEST
    return type(value) is kind


@dataclass(frozen=True, kw_only=True)
class RotaryScaling:
    """How a model trained on short contexts stretches its rotary frequencies to longer ones.

    `linear` divides every frequency (Chen et al. 2306.15595); `llama3` only those with few rotations within
    `original_positions`, and interpolates between the low and the high factor (Meta's LLaMA 3.1 release).
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low_frequency_factor: float = 1.0
    high_frequency_factor: float = 4.0
    original_positions: int = 8192

    def __post_init__(self) -> None:
        check_fields(self, original_positions=1)
        if self.factor < 1 or self.high_frequency_factor <= self.low_frequency_factor:
            raise ConfigError(
                f"rotary scaling needs factor >= 1 and high_frequency_factor > low_frequency_factor, "
                f"got {self.factor}, {self.high_frequency_factor}, {self.low_frequency_factor}"
            )


@dataclass(frozen=True, kw_only=True)
class PositionConfig:
    """How positions enter a network.

    `learned` and `sinusoidal` are added to the embeddings, `rotary` rotates queries and keys, `alibi` and
    `buckets` (T5's) add a bias to the scores.
    """

    kind: Literal["learned", "sinusoidal", "rotary", "alibi", "buckets"] = "learned"
    offset: int = 0  # rows at the start of a learned table that stay unused
    rotary_base: float = 10_000.0
    rotary_interleaved: bool = False
    scaling: RotaryScaling | None = None
    num_buckets: int = 32
    max_distance: int = 128

    def __post_init__(self) -> None:
        check_fields(self, offset=0, rotary_base=1, num_buckets=4)
        if self.max_distance <= self.num_buckets // 2:
            raise ConfigError(
                f"max_distance={self.max_distance} must be greater than the {self.num_buckets // 2} exact "
                "buckets"
            )
        if self.scaling is not None and self.kind != "rotary":
            raise ConfigError(
                f"position scaling belongs to kind 'rotary', not {self.kind!r}; leave one of them out"
            )


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """The fields of attention: sizes of its heads, norms of queries and keys, scale, window."""

    num_kv_heads: int | None = None  # None: num_heads
    head_dim: int | None = None  # None: d_model / num_heads
    # The norm of each query and key (2010.04245): the network's without parameters, or RMSNorm with a weight.
    qk_norm: Literal["none", "plain", "rms"] = "none"
    scale: float | None = None  # of the scores; None: head_dim ** -0.5
    window: int | None = None  # a token attends to so many tokens, itself included (Mistral, 2310.06825)

    def __post_init__(self) -> None:
        check_fields(self, num_kv_heads=1, head_dim=1, window=1)


@dataclass(frozen=True, kw_only=True)
class ResidualConfig:
    """Where each branch of a block (attention, feed-forward) has its norms, and what its input is."""

    norms: tuple[NormPlace, ...] = ("input",)  # x + branch(norm(x)), or the `sum`: norm(x + branch(x))
    parallel: bool = False  # all branches have the same input and share one norm at each place

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def final_norm(self) -> bool:
        """Whether a norm follows the last block: where the sums have none."""
        return "sum" not in self.norms


PRE = ResidualConfig()
POST = ResidualConfig(norms=("sum",))
PARALLEL = ResidualConfig(parallel=True)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The fields in which an encoder may differ from its decoder."""

    num_layers: int
    num_heads: int
    d_ff: int


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """What follows the last layer.

    `lm`: logits over the vocabulary; `mlm`: the same after a transform of the hidden states; `none`: nothing.
    `classification` gives each row, `tagging` each token one logit per label.
    """

    kind: HeadKind = "lm"
    pooler: bool = False  # a projection with tanh of each row's first token (BERT, 1810.04805)
    dense: bool = False  # one before the classifier (RoBERTa, BART)
    labels: tuple[str, ...] = ()
    several_labels: bool = False  # they are independent of each other

    def __post_init__(self) -> None:
        check_fields(self)
        if bool(self.labels) != (self.kind in LABELLED):
            raise ConfigError(
                f"a head of the kind {self.kind!r} with {len(self.labels)} labels is not allowed; labels "
                f"belong to {' and '.join(LABELLED)}, and only there"
            )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture of a Transformer: encoder, decoder, or both.

    `norm` is LayerNorm (`layer`), without a bias (`layer_no_bias`) or without parameters (`layer_plain`), or
    RMSNorm (`rms`), without a weight (`rms_plain`) or with 1 added to it (`rms_offset`).
    """

    family: str  # whose `config.json` and weight names a bundle has
    shape: Shape
    vocab_size: int
    d_model: int
    num_layers: int
    num_heads: int
    d_ff: int
    attention: AttentionConfig = field(default_factory=AttentionConfig)
    max_positions: int = 1024
    position: PositionConfig = field(default_factory=PositionConfig)
    encoder: EncoderConfig | None = None  # None: as the decoder
    segment_types: int = 0
    norm: NormKind = "layer"
    norm_eps: float = 1e-5
    residual: ResidualConfig = PRE  # or POST, or PARALLEL
    activation: Activation = "gelu_tanh"
    gated_ffn: bool = False
    bias: Literal["all", "qkv", "none"] = "all"  # of the projections
    embedding_scale: float = 1.0
    embedding_norm: bool = False
    output_scale: float = 1.0  # of the hidden states before the output
    logit_cap: float | None = None  # c bounds the logits to c tanh(x / c)
    head: HeadConfig = field(default_factory=HeadConfig)
    tie_embeddings: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "d_model", "num_layers", "num_heads", "d_ff")
        check_fields(
            self, **dict.fromkeys(sizes, 1), max_positions=1, segment_types=0, norm_eps=0, logit_cap=1
        )
        if self.attention.head_dim is None and self.d_model % self.num_heads:
            raise ConfigError(
                f"d_model={self.d_model} cannot be split into num_heads={self.num_heads} equal heads; "
                f"choose a divisor of {self.d_model} or set head_dim"
            )
        if self.num_heads % self.kv_heads:
            raise ConfigError(
                f"num_heads={self.num_heads} is not a multiple of num_kv_heads={self.kv_heads}; choose a "
                "divisor"
            )
        if not self.output_scale:
            raise ConfigError(
                f"output_scale={self.output_scale} is not allowed; allowed: a number other than 0"
            )
        if self.encoder is not None:
            _ = self.encoder_config  # checks the encoder's fields
        if self.position.kind == "rotary" and self.d_head % 2:
            raise ConfigError(
                f"rotary positions rotate pairs, but head_dim={self.d_head} is odd; choose an even one"
            )

    @property
    def encoder_config(self) -> ModelConfig:
        """The config of the encoder: the decoder's with the fields of `encoder`."""
        if self.encoder is None:
            return self
        return replace(self, encoder=None, **asdict(self.encoder))

    def with_attention(self, **changes: Any) -> ModelConfig:
        """The config with these fields of its attention changed, the others kept."""
        return replace(self, attention=replace(self.attention, **changes))

    @property
    def kv_heads(self) -> int:
        """The number of key and value heads."""
        return self.attention.num_kv_heads or self.num_heads

    @property
    def d_head(self) -> int:
        """The size of a head."""
        return self.attention.head_dim or self.d_model // self.num_heads


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """The architecture of a recurrent language model: embedding, layers of one cell, output (1409.2329)."""

    family: str
    cell: Literal["lstm", "gru"]
    vocab_size: int
    d_model: int
    num_layers: int
    tie_embeddings: bool = False
    dropout: float = 0.0  # on the connections that are not recurrent
    init_range: float = 0.05  # every parameter starts uniform in (-init_range, init_range)
    # As of a ModelConfig, and the same for all: no fields.
    shape = "decoder"
    head = HeadConfig()
    max_positions = None

    def __post_init__(self) -> None:
        check_fields(self, vocab_size=1, d_model=1, num_layers=1, init_range=0)
